# A testee: answers the conformance suite of XTrack for an implementation.
#
#     python -m xtrack_conformance smoke -- elixir testee.exs
#
# The decoder, the encoder and the framer below are of a few lines and know little more than one event. Put your own in
# their place, where it says PLUG IN; the rest can stay. docs/reference/testee-protocol.md tells what each line means.

defmodule Json do
  @moduledoc "JSON, as old versions of Elixir don't have it. An object is {:object, pairs}, a number {:number, digits}."

  @text ~r/\A"((?:[^"\\\x00-\x1f]++|\\(?:["\\\/bfnrt]|u[0-9a-fA-F]{4}))*+)"/
  @number ~r/\A-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?/

  def read(bytes) do
    with {value, rest} <- value(trim(bytes)), "" <- trim(rest), do: {:ok, value}, else: (_ -> :error)
  catch
    :bad -> :error
  end

  def get({:object, pairs}, name), do: Enum.find_value(pairs, fn {key, value} -> key == name && value end)
  def get(_, _), do: nil

  defp value("null" <> rest), do: {nil, rest}
  defp value("true" <> rest), do: {true, rest}
  defp value("false" <> rest), do: {false, rest}
  defp value("[" <> rest), do: items(trim(rest), [], "]", &value/1)
  defp value("{" <> rest), do: with({pairs, rest} <- items(trim(rest), [], "}", &pair/1), do: {{:object, pairs}, rest})
  defp value("\"" <> _ = bytes), do: text(bytes)
  defp value(bytes), do: with({digits, rest} <- taken(@number, bytes), do: {{:number, digits}, rest})

  defp pair(bytes) do
    {name, rest} = text(bytes)
    {value, rest} = value(trim(after_(trim(rest), ":")))
    {{name, value}, rest}
  end

  defp items(<<close::binary-size(1), rest::binary>>, [], close, _), do: {[], rest}

  defp items(bytes, found, close, read) do
    {item, rest} = read.(bytes)

    case trim(rest) do
      "," <> rest -> items(trim(rest), [item | found], close, read)
      <<^close::binary-size(1), rest::binary>> -> {Enum.reverse([item | found]), rest}
      _ -> throw(:bad)
    end
  end

  defp text(bytes) do
    {<<?", quoted::binary>>, rest} = taken(@text, bytes)
    {unescaped(String.slice(quoted, 0..-2//1), ""), rest}
  end

  defp unescaped("", done), do: done
  defp unescaped("\\u" <> <<hex::binary-size(4), rest::binary>>, done), do: escape(String.to_integer(hex, 16), rest, done)
  defp unescaped(<<?\\, letter, rest::binary>>, done), do: unescaped(rest, done <> letter(letter))

  defp unescaped(bytes, done) do
    [plain | _] = String.split(bytes, "\\", parts: 2)
    unescaped(binary_part(bytes, byte_size(plain), byte_size(bytes) - byte_size(plain)), done <> plain)
  end

  defp escape(high, "\\u" <> <<hex::binary-size(4), rest::binary>>, done) when high in 0xD800..0xDBFF do
    low = String.to_integer(hex, 16)
    if low not in 0xDC00..0xDFFF, do: throw(:bad)
    unescaped(rest, done <> <<0x10000 + (high - 0xD800) * 0x400 + (low - 0xDC00)::utf8>>)
  end

  defp escape(code, _, _) when code in 0xD800..0xDFFF, do: throw(:bad)
  defp escape(code, rest, done), do: unescaped(rest, done <> <<code::utf8>>)

  defp letter(letter), do: Map.get(%{?b => "\b", ?f => "\f", ?n => "\n", ?r => "\r", ?t => "\t"}, letter, <<letter>>)

  defp taken(pattern, bytes) do
    case Regex.run(pattern, bytes, return: :index) do
      [{0, size} | _] -> {binary_part(bytes, 0, size), binary_part(bytes, size, byte_size(bytes) - size)}
      nil -> throw(:bad)
    end
  end

  defp after_(bytes, mark) do
    if String.starts_with?(bytes, mark), do: String.replace_prefix(bytes, mark, ""), else: throw(:bad)
  end

  defp trim(<<space, rest::binary>>) when space in ' \t\n\r', do: trim(rest)
  defp trim(bytes), do: bytes

  def write({:object, pairs}), do: [?{, Enum.map_intersperse(pairs, ?,, fn {k, v} -> [write(k), ?:, write(v)] end), ?}]
  def write(list) when is_list(list), do: [?[, Enum.map_intersperse(list, ?,, &write/1), ?]]
  def write({:number, digits}), do: digits
  def write(nil), do: "null"
  def write(value) when is_boolean(value) or is_integer(value), do: to_string(value)

  def write(text) when is_binary(text) do
    escape = fn <<byte>> -> "\\u" <> String.pad_leading(Integer.to_string(byte, 16), 4, "0") end
    [?", String.replace(text, ~r/["\\\x00-\x1f\x7f]/, escape), ?"]
  end
end

defmodule Implementation do
  @moduledoc "PLUG IN yours."

  # PLUG IN the events of your implementation. This one checks required members of one event, and no others.
  @events %{"metric" => [{"run_id", :text}, {"key", :text}, {"value", :number}]}
  @non_finite ["NaN", "Infinity", "-Infinity"]

  # PLUG IN your decoder: return the event, or throw a class of docs/spec/errors.md. `reader` is strict or lenient.
  def decode(payload, _reader) do
    if not String.valid?(payload), do: throw({:refused, "bad_utf8"})

    event =
      case Json.read(payload) do
        {:ok, event} -> event
        :error -> throw({:refused, "bad_json"})
      end

    if Enum.any?(["t", "v", "m", "p"], &(Json.get(event, &1) == nil)), do: throw({:refused, "bad_envelope"})

    for {name, kind} <- Map.get(@events, Json.get(event, "t"), []) do
      case {Json.get(Json.get(event, "p"), name), kind} do
        {nil, _} -> throw({:refused, "missing_field"})
        {{:number, _}, :number} -> :ok
        {value, :number} when value in @non_finite -> :ok
        {value, :text} when is_binary(value) -> :ok
        _ -> throw({:refused, "bad_type"})
      end
    end

    event
  end

  # PLUG IN your encoder: return the whole frame.
  def encode(event) do
    payload = IO.iodata_to_binary(Json.write(event))
    <<byte_size(payload)::32, payload::binary>>
  end

  # PLUG IN your frame reader. This one reads connections only.
  def feed(%{closed: false, buffer: <<size::32, _::binary>>} = framer, found) when size == 0 or size > framer.limit do
    class = if size == 0, do: "empty_frame", else: "frame_too_large"
    {Enum.reverse([{framer.offset, nil, {:rejected, class, true}} | found]), %{framer | closed: true}}
  end

  def feed(%{closed: false, buffer: <<size::32, payload::binary-size(size), rest::binary>>} = framer, found) do
    result =
      try do
        decode(payload, framer.reader)
        {:payload, payload}
      catch
        {:refused, class} -> {:rejected, class, false}
      end

    feed(%{framer | buffer: rest, offset: framer.offset + 4 + size}, [{framer.offset, 4 + size, result} | found])
  end

  def feed(framer, found), do: {Enum.reverse(found), framer}

  def finish(%{closed: false, buffer: rest} = framer) when rest != "" do
    {[{framer.offset, byte_size(rest), {:rejected, "truncated", false}}], %{framer | buffer: ""}}
  end

  def finish(framer), do: {[], framer}
end

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
