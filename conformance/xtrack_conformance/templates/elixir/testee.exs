# A testee: answers the conformance suite of XTrack for an implementation.
#
#     python -m xtrack_conformance smoke -- elixir testee.exs
#
# Beside it lies implementation.exs. Put your own in its place; the rest can stay.
# docs/reference/testee-protocol.md tells what each line means.

for name <- ["json.exs", "implementation.exs"], do: Code.require_file(name, __DIR__)

defmodule Testee do
  @moduledoc "Answers a line by a line."

  # PLUG IN who you are, and what you have: recording, limits, stop_at_damage, lone_surrogates.
  @hello ~S({"impl":{"name":"my-xtrack","version":"0.1","language":"Elixir"},"protocol":[1],) <>
           ~S("roles":["encoder","decoder","framer"],"capabilities":{"strict":true,"lenient":true},"max_in_flight":16})

  def run(sessions \\ %{}) do
    with line when is_binary(line) <- IO.binread(:stdio, :line) do
      {:ok, request} = Json.read(line)

      {answer, sessions} =
        try do
          answer(Json.get(request, "op"), request, sessions)
        catch
          {:refused, class} -> {[{"rejected", {:object, [{"class", class}]}}], sessions}
          # What isn't refused on purpose is told, and counted as a failure of this one request.
          kind, reason -> {[{"internal_error", Exception.format(kind, reason, __STACKTRACE__)}], sessions}
        end

      IO.binwrite(:stdio, [Json.write({:object, [{"id", Json.get(request, "id")} | answer]}), ?\n])
      run(sessions)
    end
  end

  defp answer("hello", _, sessions) do
    {:ok, {:object, members}} = Json.read(@hello)
    {members, sessions}
  end

  defp answer("decode", request, sessions) do
    payload = Base.decode64!(Json.get(request, "payload"))
    {[{"event", tagged(Implementation.decode(payload, Json.get(request, "reader")), nil)}], sessions}
  end

  defp answer("encode", request, sessions) do
    {[{"frame", Base.encode64(Implementation.encode(untagged(Json.get(request, "event"))))}], sessions}
  end

  defp answer(op, request, sessions) when op in ["frame.feed", "frame.finish"] do
    name = Json.get(request, "session")
    limit = with {:number, digits} <- Json.get(request, "limit"), do: String.to_integer(digits)
    new = %{reader: Json.get(request, "reader"), limit: limit || 1_048_576, buffer: "", offset: 0, closed: false}
    framer = Map.get(sessions, name, new)

    {found, framer} =
      if op == "frame.feed" do
        Implementation.feed(%{framer | buffer: framer.buffer <> Base.decode64!(Json.get(request, "bytes"))}, [])
      else
        Implementation.finish(framer)
      end

    state = if framer.closed, do: "closed", else: if(framer.buffer == "", do: "between", else: "need-more")
    {[{"frames", Enum.map(found, &told/1)}, {"state", state}], Map.put(sessions, name, framer)}
  end

  defp answer(op, _, sessions), do: {[{"unsupported", {:object, [{"capability", op}]}}], sessions}

  defp told({offset, length, {:payload, payload}}),
    do: {:object, [{"offset", offset}, {"length", length}, {"payload", Base.encode64(payload)}]}

  defp told({offset, length, {:rejected, class, fatal}}) do
    {:object, [{"offset", offset}, {"length", length}, {"rejected", {:object, [{"class", class}, {"fatal", fatal}]}}]}
  end

  # A value with its type, so that 1, 1.0 and true stay apart on their way. `name`: of the member that it stands in.
  defp tagged(value, name) do
    case value do
      nil -> {:object, [{"t", "null"}]}
      value when is_boolean(value) -> tag("bool", value)
      {:number, digits} -> if digits =~ ~r/[.eE]/, do: tag("float", bits(digits)), else: tag("int", digits)
      "NaN" when name == "value" -> tag("float", "7ff8000000000000")
      "Infinity" when name == "value" -> tag("float", "7ff0000000000000")
      "-Infinity" when name == "value" -> tag("float", "fff0000000000000")
      text when is_binary(text) -> tag("str", text)
      list when is_list(list) -> tag("list", Enum.map(list, &tagged(&1, nil)))
      {:object, pairs} -> tag("obj", Enum.map(pairs, fn {key, item} -> [key, tagged(item, key)] end))
    end
  end

  defp tag(kind, held), do: {:object, [{"t", kind}, {"v", held}]}

  defp bits(digits) do
    [mantissa | exponent] = String.split(digits, ~r/[eE]/)
    mantissa = if mantissa =~ ".", do: mantissa, else: mantissa <> ".0"
    Base.encode16(<<String.to_float(Enum.join([mantissa | exponent], "e"))::float>>, case: :lower)
  end

  defp untagged(tagged) do
    held = Json.get(tagged, "v")

    case Json.get(tagged, "t") do
      "int" -> {:number, held}
      "float" -> number(Base.decode16!(held, case: :lower))
      "list" -> Enum.map(held, &untagged/1)
      "obj" -> {:object, Enum.map(held, fn [name, item] -> {name, untagged(item)} end)}
      _ -> held
    end
  end

  # A number that JSON doesn't have goes as a string.
  defp number(<<value::float>>), do: {:number, Float.to_string(value)}
  defp number(<<0x7FF0000000000000::64>>), do: "Infinity"
  defp number(<<0xFFF0000000000000::64>>), do: "-Infinity"
  defp number(_), do: "NaN"
end

# Bytes as they are, in both directions.
:ok = :io.setopts(:standard_io, binary: true, encoding: :latin1)
Testee.run()
