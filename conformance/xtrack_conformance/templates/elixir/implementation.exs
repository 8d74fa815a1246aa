defmodule Implementation do
  @moduledoc "PLUG IN yours: this decoder, encoder and framer of a few lines know little more than one event."

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
