defmodule XTrack.Framer do
  @moduledoc """
  Bytes into frames and errors, however the bytes arrive (FRM-1.5).

  `feed/2` and `finish/1` return what the bytes complete. The buffer holds what is not decided yet, from `offset` on:
  the beginning of a frame, or, while the position in a recording is lost, the place where the search goes on.
  """

  alias XTrack.{Decoder, Reading}

  @default_limits %{connection: 1_048_576, recording: 16_777_215}

  @enforce_keys [:source, :reader, :limit]
  defstruct [
    :source,
    :reader,
    :limit,
    stop_at_damage: false,
    buffer: "",
    offset: 0,
    # Bytes at the buffer's beginning that hold no 00 where a payload may hold none; so none is looked at twice.
    clear: 0,
    # The damage whose end is looked for: {class, its offset, the end that its frame announced}.
    lost: nil,
    verified: true,
    ended: false,
    closed: false
  ]

  @type t :: %__MODULE__{}
  @type class :: Decoder.class() | :truncated | :frame_too_large | :empty_frame
  @type item :: %{
          offset: non_neg_integer,
          length: non_neg_integer | nil,
          verified: boolean,
          result: {:accepted, binary} | {:rejected, class, fatal :: boolean}
        }
  @type state :: :between | :need_more | :closed

  defguardp is_space(byte) when byte in [?\s, ?\t, ?\n, ?\r]
  defguardp is_opening(byte) when byte == ?{ or is_space(byte)

  @spec new(:connection | :recording, Reading.reader(), keyword) :: t
  def new(source, reader, options \\ []) do
    %__MODULE__{
      source: source,
      reader: reader,
      limit: options[:limit] || @default_limits[source],
      stop_at_damage: options[:stop_at_damage] || false
    }
  end

  @doc "Takes bytes; returns what they complete."
  @spec feed(t, binary) :: {[item], t}
  def feed(%{closed: true} = framer, _bytes), do: {[], framer}
  def feed(framer, bytes), do: drain(%{framer | buffer: framer.buffer <> bytes}, [])

  @doc "No more bytes will come."
  @spec finish(t) :: {[item], t}
  def finish(%{closed: true} = framer), do: {[], framer}

  def finish(framer) do
    {items, framer} = drain(%{framer | ended: true}, [])
    {items, close(framer)}
  end

  @spec state(t) :: state
  def state(%{closed: true}), do: :closed
  def state(%{buffer: "", lost: nil}), do: :between
  def state(_framer), do: :need_more

  defp drain(framer, items) do
    case step(framer) do
      {:wait, framer} ->
        {Enum.reverse(items), framer}

      {:go_on, framer} ->
        drain(framer, items)

      {:yield, %{result: {:rejected, _, fatal}} = item, framer} when fatal or framer.stop_at_damage ->
        {Enum.reverse([item | items]), close(framer)}

      {:yield, item, framer} ->
        drain(framer, [item | items])
    end
  end

  defp close(framer), do: %{framer | buffer: "", closed: true}

  defp step(%{buffer: "", lost: nil} = framer), do: {:wait, framer}
  defp step(%{lost: nil, source: :connection} = framer), do: on_connection(framer)
  defp step(%{lost: nil, source: :recording} = framer), do: in_recording(framer)
  defp step(framer), do: search(framer)

  # Connections (FRM-5)

  # No legal length begins otherwise, and no byte more is needed to see it (FRM-3.7, ERR-2.1).
  defp on_connection(%{buffer: <<first, _::binary>>} = framer) when first != 0,
    do: fatal(framer, :frame_too_large)

  defp on_connection(%{buffer: <<0::32, _::binary>>} = framer), do: fatal(framer, :empty_frame)

  defp on_connection(%{buffer: <<size::32, _::binary>>, limit: limit} = framer) when size > limit,
    do: fatal(framer, :frame_too_large)

  defp on_connection(%{buffer: <<size::32, payload::binary-size(size), _::binary>>} = framer),
    do: settle(framer, payload, Decoder.decode(payload, framer.reader))

  defp on_connection(%{ended: true} = framer),
    do: reject(framer, :truncated, byte_size(framer.buffer))

  defp on_connection(framer), do: {:wait, framer}

  # The length of a fatal error would depend on how the bytes arrived (FRM-5.2).
  defp fatal(framer, class), do: {:yield, item(framer, nil, {:rejected, class, true}), framer}

  # Recordings (FRM-6)

  defp in_recording(%{buffer: <<0::32, _::binary>>} = framer), do: lose(framer, :empty_frame, 0)

  defp in_recording(%{buffer: <<size::32, _::binary>>, limit: limit} = framer) when size > limit,
    do: lose(framer, :frame_too_large, size)

  defp in_recording(%{buffer: <<size::32, _::binary>>} = framer) do
    case payload(framer, size) do
      # Known without the rest of the payload, and so whatever the rest is (FRM-6.4).
      :holds_zero -> lose(framer, :bad_json, size)
      {:cut, %{ended: true}} -> lose(framer, :truncated, size)
      {:cut, framer} -> {:wait, framer}
      {:whole, payload} -> judge(framer, payload)
    end
  end

  defp in_recording(%{ended: false} = framer), do: {:wait, framer}
  defp in_recording(%{buffer: <<0, _::binary>>} = framer), do: lose(framer, :truncated, 0)
  defp in_recording(framer), do: lose(framer, :frame_too_large, 0)

  defp judge(framer, payload) do
    case Decoder.decode(payload, framer.reader) do
      {:error, class} = error when class in [:bad_utf8, :bad_json] ->
        case seems_to_begin(framer, 4 + byte_size(payload)) do
          :unknown -> {:wait, framer}
          true -> settle(framer, payload, error)
          false -> lose(framer, class, byte_size(payload))
        end

      result ->
        settle(framer, payload, result)
    end
  end

  # FRM-6.2
  defp seems_to_begin(framer, at) do
    case framer.buffer do
      <<_::binary-size(at), size::32, first, _::binary>> ->
        size in 1..framer.limit and is_opening(first)

      <<_::binary-size(at), rest::binary>> ->
        if framer.ended, do: rest == "", else: :unknown
    end
  end

  # The frame at the buffer's beginning is damaged, and where the next one begins is not known. The search starts at the
  # next byte (FRM-6.5).
  defp lose(framer, class, size) do
    {:go_on, skip(%{framer | lost: {class, framer.offset, framer.offset + 4 + size}}, 1)}
  end

  # Looks for a plausible frame (FRM-6.6). It begins with 00 and holds no other behind its length, so that at most four
  # candidates share the bytes between two of them: the search takes linear time (FRM-6.11).
  defp search(framer) do
    case to_candidate(framer) do
      %{buffer: <<size::32, first, _::binary>>, limit: limit} = framer
      when size in 1..limit and is_opening(first) ->
        case payload(framer, size) do
          {:whole, payload} -> weigh(framer, payload)
          {:cut, %{ended: false} = framer} -> {:wait, framer}
          _implausible -> {:go_on, skip(framer, 1)}
        end

      %{buffer: <<_, _::32, _::binary>>} = framer ->
        {:go_on, skip(framer, 1)}

      %{ended: true} = framer ->
        # Too few bytes for a frame: the damage reaches to the end.
        regain(skip(framer, byte_size(framer.buffer)))

      framer ->
        {:wait, framer}
    end
  end

  defp weigh(framer, payload) do
    case Decoder.decode(payload, framer.reader) do
      {:error, class} when class in [:bad_utf8, :bad_json] -> {:go_on, skip(framer, 1)}
      _ -> regain(framer)
    end
  end

  # The damage ends here. What follows is vouched for only where the damaged frame announced this very end (FRM-6.9).
  defp regain(%{lost: {class, from, announced}} = framer) do
    damage = %{item(framer, framer.offset - from, {:rejected, class, false}) | offset: from}
    found = framer.buffer != "" and framer.offset != announced
    {:yield, damage, %{framer | lost: nil, verified: framer.verified and not found}}
  end

  # To the next 00. Of a run of them only the last four can begin a length that is not 0.
  defp to_candidate(%{clear: 0} = framer) do
    case :binary.match(framer.buffer, <<0>>) do
      {at, 1} -> framer |> skip(at) |> skip_zeros()
      :nomatch -> skip(framer, byte_size(framer.buffer))
    end
  end

  # This is a candidate already, and part of its payload was looked at.
  defp to_candidate(framer), do: framer

  defp skip_zeros(framer), do: skip(framer, max(zeros(framer.buffer, 0) - 4, 0))

  defp zeros(<<0, rest::binary>>, count), do: zeros(rest, count + 1)
  defp zeros(_rest, count), do: count

  # What has come of the payload behind the length at the buffer's beginning.
  defp payload(%{buffer: buffer} = framer, size) do
    from = max(framer.clear, 4)
    till = min(byte_size(buffer), 4 + size)

    cond do
      :binary.match(buffer, <<0>>, scope: {from, till - from}) != :nomatch -> :holds_zero
      till == 4 + size -> {:whole, binary_part(buffer, 4, size)}
      true -> {:cut, %{framer | clear: till}}
    end
  end

  # Items

  defp settle(framer, payload, result) do
    length = 4 + byte_size(payload)

    case result do
      {:ok, _event} -> {:yield, item(framer, length, {:accepted, payload}), skip(framer, length)}
      {:error, class} -> reject(framer, class, length)
    end
  end

  defp reject(framer, class, length),
    do: {:yield, item(framer, length, {:rejected, class, false}), skip(framer, length)}

  defp item(framer, length, result),
    do: %{offset: framer.offset, length: length, verified: framer.verified, result: result}

  defp skip(framer, count) do
    <<_::binary-size(count), rest::binary>> = framer.buffer
    %{framer | buffer: rest, offset: framer.offset + count, clear: 0}
  end
end
