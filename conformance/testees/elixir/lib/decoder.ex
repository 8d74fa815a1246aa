defmodule XTrack.Decoder do
  @moduledoc """
  Payloads into events.

  An event is a map of `"t"`, `"v"`, `"m"` and `"p"`. Members that are absent, or as good as absent, are in none of its
  maps; neither are members that the specification does not know.
  """

  alias XTrack.{Events, Json, Reading}

  @type event :: %{String.t() => term}
  @type class ::
          :bad_utf8
          | :bad_json
          | :too_deep
          | :bad_envelope
          | :unsupported_version
          | Reading.fault()

  @depth 64

  @spec decode(binary, Reading.reader()) :: {:ok, event} | {:error, class}
  def decode(payload, reader) do
    with {:ok, tree} <- Json.read(payload, bare_tokens: reader == :lenient, depth: @depth),
         {:ok, envelope} <- envelope(tree, reader) do
      contents(envelope, reader)
    end
  end

  defp envelope(%{"t" => type, "v" => version, "m" => %{} = meta, "p" => %{} = body}, reader)
       when is_binary(type) do
    case Reading.slot(:integer, version, reader) do
      {:ok, 1} -> {:ok, %{"t" => type, "v" => 1, "m" => meta, "p" => body}}
      {:ok, _other} -> {:error, :unsupported_version}
      {:error, _} -> {:error, :bad_envelope}
    end
  end

  defp envelope(_tree, _reader), do: {:error, :bad_envelope}

  defp contents(%{"t" => type, "m" => meta, "p" => body} = envelope, reader) do
    {kind, slot} = Events.body(type)

    case {meta(kind, meta, reader), Reading.slot(slot, body, reader)} do
      {{:ok, meta}, {:ok, body}} -> {:ok, %{envelope | "m" => meta, "p" => body}}
      {{:error, one}, {:error, other}} -> {:error, Reading.foremost([one, other])}
      {{:error, fault}, _} -> {:error, fault}
      {_, {:error, fault}} -> {:error, fault}
    end
  end

  # Events of a run are numbered from 1 (ENV-4.3); the seq of all others means nothing (ENV-4.4).
  defp meta(kind, meta, reader) do
    case Reading.members(Events.meta(), meta, reader) do
      {:ok, %{"seq" => seq}} when kind == :of_run and seq < 1 -> {:error, :out_of_range}
      result -> result
    end
  end
end
