defmodule XTrack.JsonText do
  @moduledoc """
  Writes JSON text as iodata, without white space. Whoever calls decides on the order of an object's members.
  """

  @spec object([{String.t(), iodata}]) :: iodata
  def object(members) do
    [?{, members |> Enum.map(fn {name, text} -> [string(name), ?:, text] end) |> Enum.intersperse(?,), ?}]
  end

  @spec list([iodata]) :: iodata
  def list(texts), do: [?[, Enum.intersperse(texts, ?,), ?]]

  @spec literal(nil | boolean) :: iodata
  def literal(nil), do: "null"
  def literal(true), do: "true"
  def literal(false), do: "false"

  @spec integer(integer) :: iodata
  def integer(value), do: Integer.to_string(value)

  @doc "The shortest digits that are read back as the same binary64, always with a fraction, so that it stays one."
  @spec float(float) :: iodata
  def float(value), do: Float.to_string(value)

  @spec string(String.t()) :: iodata
  def string(text), do: [?", escaped(text, []), ?"]

  defp escaped(text, done) do
    size = plain(text, 0)

    case text do
      <<run::binary-size(size)>> -> [done, run]
      <<run::binary-size(size), byte, rest::binary>> -> escaped(rest, [done, run, escape(byte)])
    end
  end

  defp plain(<<byte, rest::binary>>, size) when byte >= 0x20 and byte != ?" and byte != ?\\,
    do: plain(rest, size + 1)

  defp plain(_rest, size), do: size

  defp escape(?"), do: "\\\""
  defp escape(?\\), do: "\\\\"
  defp escape(?\n), do: "\\n"
  defp escape(?\r), do: "\\r"
  defp escape(?\t), do: "\\t"
  defp escape(byte), do: ["\\u00", Base.encode16(<<byte>>, case: :lower)]
end
