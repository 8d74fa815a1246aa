defmodule XTrack.Encoder do
  @moduledoc """
  Events into frames, in the writer's form (ENV-7). What no writer may write is refused, and nothing is written of it.
  """

  alias XTrack.{Decoder, Events, JsonText, Writing}

  # No reader takes more (FRM-3.3). That an emitter sends less (FRM-3.8) is its own matter.
  @max_payload 16_777_215
  @depth 64

  @doc "All bytes of an event's frame."
  @spec encode(map) :: {:ok, binary} | {:error, Decoder.class() | :frame_too_large}
  def encode(%{"t" => type, "v" => 1, "m" => %{} = meta, "p" => %{} = body}) when is_binary(type) do
    # The payload is an object itself, and takes the first place.
    room = @depth - 1

    payload =
      [
        {"t", JsonText.string(type)},
        {"v", JsonText.integer(1)},
        {"m", meta(type, meta, room)},
        {"p", body(type, body, room)}
      ]
      |> JsonText.object()
      |> IO.iodata_to_binary()

    if byte_size(payload) <= @max_payload,
      do: {:ok, <<byte_size(payload)::32, payload::binary>>},
      else: {:error, :frame_too_large}
  catch
    {:refused, class} -> {:error, class}
  end

  def encode(%{"v" => version}) when is_integer(version) and version != 1,
    do: {:error, :unsupported_version}

  def encode(_event), do: {:error, :bad_envelope}

  defp meta(type, meta, room) do
    text = Writing.members(Events.meta(), meta, room)

    case {Events.body(type), meta} do
      {{:of_run, _}, %{"seq" => seq}} when seq < 1 -> throw({:refused, :out_of_range})
      # CTL-1
      {{:control, _}, %{"seq" => seq}} when seq != 0 -> throw({:refused, :out_of_range})
      {{:control, _}, %{"sid" => sid}} when sid not in [nil, ""] -> throw({:refused, :bad_envelope})
      _ -> text
    end
  end

  defp body(type, body, room) do
    {_kind, slot} = Events.body(type)
    Writing.slot(slot, body, room)
  end
end
