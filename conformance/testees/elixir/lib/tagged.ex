defmodule XTrack.Tagged do
  @moduledoc "Values as they cross the testee protocol: each with its type."

  alias XTrack.{JsonText, Number}

  import Number, only: [is_non_finite: 1]

  @non_finite_bits %{
    nan: "7ff8000000000000",
    infinity: "7ff0000000000000",
    negative_infinity: "fff0000000000000"
  }

  @doc "The value that a tagged one is. Throws `{:unsupported, capability}` for what Elixir's strings can't hold."
  @spec parse(map) :: term
  def parse(%{"t" => "null"}), do: nil
  def parse(%{"t" => "bool", "v" => value}) when is_boolean(value), do: value
  def parse(%{"t" => "int", "v" => digits}), do: String.to_integer(digits)
  def parse(%{"t" => "float", "v" => digits}), do: digits |> Base.decode16!(case: :lower) |> binary64()
  def parse(%{"t" => "str", "v" => text}) when is_binary(text), do: text
  def parse(%{"t" => "utf16"}), do: throw({:unsupported, "lone_surrogates"})
  def parse(%{"t" => "list", "v" => values}), do: Enum.map(values, &parse/1)
  def parse(%{"t" => "obj", "v" => pairs}), do: Map.new(pairs, fn [name, value] -> {name, parse(value)} end)

  defp binary64(<<value::float>>), do: value
  defp binary64(<<0::1, 0x7FF::11, 0::52>>), do: :infinity
  defp binary64(<<1::1, 0x7FF::11, 0::52>>), do: :negative_infinity
  defp binary64(<<_::1, 0x7FF::11, _::52>>), do: :nan

  @doc "The text of a value with its type."
  @spec text(term) :: iodata
  def text(nil), do: JsonText.object([{"t", JsonText.string("null")}])
  def text(value) when is_boolean(value), do: tagged("bool", JsonText.literal(value))
  def text(value) when is_non_finite(value), do: tagged("float", JsonText.string(@non_finite_bits[value]))
  def text(value) when is_integer(value), do: tagged("int", [?", JsonText.integer(value), ?"])

  def text(value) when is_float(value),
    do: tagged("float", JsonText.string(Base.encode16(<<value::float>>, case: :lower)))

  def text(value) when is_binary(value), do: tagged("str", JsonText.string(value))
  def text(list) when is_list(list), do: tagged("list", JsonText.list(Enum.map(list, &text/1)))

  def text(%{} = map) do
    pairs = Enum.map(map, fn {name, value} -> JsonText.list([JsonText.string(name), text(value)]) end)
    tagged("obj", JsonText.list(pairs))
  end

  defp tagged(type, value), do: JsonText.object([{"t", JsonText.string(type)}, {"v", value}])
end
