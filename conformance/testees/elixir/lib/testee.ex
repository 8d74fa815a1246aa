defmodule XTrack.Testee do
  @moduledoc "Answers the requests of the conformance suite: a line of JSON in, a line of JSON out."

  alias XTrack.{Decoder, Encoder, Framer, Json, JsonText, Tagged}

  @hello %{
    "impl" => %{"name" => "xtrack-elixir", "version" => "1.0", "language" => "Elixir"},
    "protocol" => [1],
    "roles" => ["encoder", "decoder", "framer"],
    # No lone_surrogates: a string of Elixir is valid UTF-8.
    "capabilities" => %{
      "strict" => true,
      "lenient" => true,
      "recording" => true,
      "stop_at_damage" => true,
      "limits" => true,
      "lone_surrogates" => false
    },
    "max_in_flight" => 64
  }

  @type sessions :: %{String.t() => Framer.t()}

  @doc "Answers until stdin ends."
  @spec run() :: :ok
  def run do
    # Bytes as they are, in both directions.
    :ok = :io.setopts(:standard_io, binary: true, encoding: :latin1)
    loop(%{})
  end

  defp loop(sessions) do
    case IO.binread(:stdio, :line) do
      :eof ->
        :ok

      line when is_binary(line) ->
        {answer, sessions} = line |> request() |> answer(sessions)
        IO.binwrite(:stdio, [answer, ?\n])
        loop(sessions)
    end
  end

  defp request(line) do
    {:ok, %{"id" => {:integer, id}, "op" => op} = request} = Json.read(line)
    {id, op, request}
  end

  @spec answer({String.t(), String.t(), map}, sessions) :: {iodata, sessions}
  defp answer({id, op, request}, sessions) do
    {members, sessions} = guarded(op, request, sessions)
    {JsonText.object([{"id", id} | members]), sessions}
  end

  defp guarded(op, request, sessions) do
    work(op, request, sessions)
  catch
    {:unsupported, capability} ->
      {[{"unsupported", JsonText.object([{"capability", JsonText.string(capability)}])}], sessions}

    kind, reason ->
      text = Exception.format(kind, reason, __STACKTRACE__)
      {[{"internal_error", JsonText.string(text)}], sessions}
  end

  defp work("hello", _request, sessions) do
    {Enum.map(@hello, fn {name, value} -> {name, plain(value)} end), sessions}
  end

  defp work("encode", %{"event" => event}, sessions) do
    case event |> Tagged.parse() |> Encoder.encode() do
      {:ok, frame} -> {[{"frame", bytes(frame)}], sessions}
      {:error, class} -> {[{"rejected", rejected(class)}], sessions}
    end
  end

  defp work("decode", %{"payload" => payload, "reader" => reader}, sessions) do
    case payload |> Base.decode64!() |> Decoder.decode(reader(reader)) do
      {:ok, event} -> {[{"event", Tagged.text(event)}], sessions}
      {:error, class} -> {[{"rejected", rejected(class)}], sessions}
    end
  end

  defp work("frame.feed", %{"session" => session, "bytes" => bytes} = request, sessions) do
    sessions |> framer(request) |> Framer.feed(Base.decode64!(bytes)) |> yielded(session, sessions)
  end

  defp work("frame.finish", %{"session" => session} = request, sessions) do
    sessions |> framer(request) |> Framer.finish() |> yielded(session, sessions)
  end

  defp framer(sessions, %{"session" => session, "source" => source, "reader" => reader} = request) do
    case sessions do
      %{^session => framer} ->
        framer

      _ ->
        Framer.new(source(source), reader(reader),
          limit: limit(request["limit"]),
          stop_at_damage: request["stop_at_damage"] || false
        )
    end
  end

  defp source("connection"), do: :connection
  defp source("recording"), do: :recording

  defp reader("strict"), do: :strict
  defp reader("lenient"), do: :lenient

  defp limit(nil), do: nil
  defp limit({:integer, digits}), do: String.to_integer(digits)

  defp yielded({items, framer}, session, sessions) do
    frames = items |> Enum.map(&item/1) |> JsonText.list()
    {[{"frames", frames}, {"state", state(Framer.state(framer))}], Map.put(sessions, session, framer)}
  end

  defp item(%{result: result} = item) do
    what =
      case result do
        {:accepted, payload} -> {"payload", bytes(payload)}
        {:rejected, class, fatal} -> {"rejected", rejected(class, [{"fatal", JsonText.literal(fatal)}])}
      end

    JsonText.object([
      {"offset", plain(item.offset)},
      {"length", plain(item.length)},
      {"verified", plain(item.verified)},
      what
    ])
  end

  defp state(:between), do: plain("between")
  defp state(:need_more), do: plain("need-more")
  defp state(:closed), do: plain("closed")

  defp rejected(class, more \\ []), do: JsonText.object([{"class", plain(Atom.to_string(class))} | more])

  defp bytes(bytes), do: [?", Base.encode64(bytes), ?"]

  defp plain(value) when is_boolean(value) or value == nil, do: JsonText.literal(value)
  defp plain(value) when is_integer(value), do: JsonText.integer(value)
  defp plain(value) when is_binary(value), do: JsonText.string(value)
  defp plain(list) when is_list(list), do: list |> Enum.map(&plain/1) |> JsonText.list()
  defp plain(%{} = map), do: map |> Enum.map(fn {name, value} -> {name, plain(value)} end) |> JsonText.object()
end
