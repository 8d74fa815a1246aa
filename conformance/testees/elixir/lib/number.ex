defmodule XTrack.Number do
  @moduledoc """
  What a number's text is worth (VAL-1, VAL-2, JSN-4).

  Erlang has no floats that are not finite. Here they are the atoms of `t:non_finite/0`, which no other value can be.
  """

  import Bitwise

  @type non_finite :: :nan | :infinity | :negative_infinity
  @type binary64 :: float | non_finite

  @int64 -0x8000_0000_0000_0000..0x7FFF_FFFF_FFFF_FFFF

  # No text has so many digits that a larger exponent could be made good by them.
  @exponent_bound 1_000_000_000

  # More significant digits than lie between two neighbours of binary64: 767 tell on which side of the middle a number is.
  @digits_bound 800

  @names %{"NaN" => :nan, "Infinity" => :infinity, "-Infinity" => :negative_infinity}
  @non_finite Map.values(@names)

  defguard is_int64(value) when is_integer(value) and value in @int64
  defguard is_non_finite(value) when value in @non_finite

  @doc "The number that one of the three strings of VAL-3 names."
  @spec named(String.t()) :: {:ok, non_finite} | :error
  def named(name), do: Map.fetch(@names, name)

  @spec name(non_finite) :: String.t()
  for {name, value} <- @names do
    def name(unquote(value)), do: unquote(name)
  end

  @doc "The int64 that a text without fraction and exponent spells."
  @spec int64(String.t()) :: {:ok, integer} | {:error, :out_of_range}
  # Longer than any int64; not worth to be converted.
  def int64(text) when byte_size(text) > 20, do: {:error, :out_of_range}

  def int64(text) do
    case String.to_integer(text) do
      value when is_int64(value) -> {:ok, value}
      _ -> {:error, :out_of_range}
    end
  end

  @doc "The int64 that a text with a fraction or an exponent spells, exactly."
  @spec integral(String.t()) :: {:ok, integer} | {:error, :bad_type | :out_of_range}
  def integral(text) do
    case decimal(text) do
      {_sign, "", _exponent} -> {:ok, 0}
      {_sign, _digits, exponent} when exponent < 0 -> {:error, :bad_type}
      {_sign, digits, exponent} when byte_size(digits) + exponent > 19 -> {:error, :out_of_range}
      {sign, digits, exponent} -> int64(sign <> digits <> String.duplicate("0", exponent))
    end
  end

  @doc "The binary64 that is nearest to what the text spells, ties to even, the sign of zero kept."
  @spec nearest(String.t()) :: {:ok, float} | {:error, :out_of_range}
  def nearest(text) do
    {sign, digits, exponent} = decimal(text)

    with {:ok, bits} <- magnitude(digits, exponent) do
      <<value::float>> = <<if(sign == "-", do: 1, else: 0)::1, bits::63>>
      {:ok, value}
    end
  end

  # {sign, digits, exponent}: the value is the digits times ten to the exponent, without zeros at either end of the digits.
  defp decimal(<<?-, text::binary>>), do: put_elem(decimal(text), 0, "-")

  defp decimal(text) do
    {mantissa, exponent} =
      case :binary.split(text, ["e", "E"]) do
        [mantissa, exponent] -> {mantissa, exponent(exponent)}
        [mantissa] -> {mantissa, 0}
      end

    {whole, fraction} =
      case :binary.split(mantissa, ".") do
        [whole, fraction] -> {whole, fraction}
        [whole] -> {whole, ""}
      end

    digits = without_leading_zeros(whole <> fraction)
    significant = without_trailing_zeros(digits, byte_size(digits))
    {"", significant, exponent - byte_size(fraction) + byte_size(digits) - byte_size(significant)}
  end

  defp exponent(<<?-, digits::binary>>), do: -exponent(digits)
  defp exponent(<<?+, digits::binary>>), do: exponent(digits)

  defp exponent(digits) do
    case without_leading_zeros(digits) do
      "" -> 0
      digits when byte_size(digits) > 9 -> @exponent_bound
      digits -> String.to_integer(digits)
    end
  end

  defp without_leading_zeros(<<?0, rest::binary>>), do: without_leading_zeros(rest)
  defp without_leading_zeros(digits), do: digits

  defp without_trailing_zeros(digits, size) do
    if size > 0 and :binary.at(digits, size - 1) == ?0,
      do: without_trailing_zeros(digits, size - 1),
      else: binary_part(digits, 0, size)
  end

  # The 63 bits below the sign of the nearest binary64.
  defp magnitude("", _exponent), do: {:ok, 0}

  defp magnitude(digits, exponent) when byte_size(digits) + exponent > 309,
    do: {:error, :out_of_range}

  defp magnitude(digits, exponent) when byte_size(digits) + exponent < -323, do: {:ok, 0}

  defp magnitude(digits, exponent) when byte_size(digits) > @digits_bound do
    # What is cut is no zero, so a 1 in its place keeps the number off the middle between two neighbours.
    exponent = exponent + byte_size(digits) - @digits_bound - 1
    (binary_part(digits, 0, @digits_bound) <> "1") |> String.to_integer() |> scaled(exponent)
  end

  defp magnitude(digits, exponent), do: digits |> String.to_integer() |> scaled(exponent)

  defp scaled(value, exponent) do
    bits =
      if exponent >= 0,
        do: quotient_bits(value * Integer.pow(10, exponent), 1),
        else: quotient_bits(value, Integer.pow(10, -exponent))

    if bits < 0x7FF <<< 52, do: {:ok, bits}, else: {:error, :out_of_range}
  end

  # 53 bits of the quotient, or fewer where its last one would be below the smallest subnormal number; the rest rounds.
  defp quotient_bits(dividend, divisor) do
    quotient_bits(dividend, divisor, max(bit_length(dividend) - bit_length(divisor) - 53, -1074))
  end

  defp quotient_bits(dividend, divisor, scale) do
    {up, down} = if scale < 0, do: {dividend <<< -scale, divisor}, else: {dividend, divisor <<< scale}
    mantissa = div(up, down)

    if mantissa >= 1 <<< 53 do
      # The estimate of the scale may be one too low, and never too high.
      quotient_bits(dividend, divisor, scale + 1)
    else
      # The field of the exponent is scale + 1075 above the subnormals, and the mantissa's first bit adds one to it; a
      # mantissa that rounds up to 2^53 adds the other one.
      ((scale + 1074) <<< 52) + mantissa + round_up(mantissa, 2 * rem(up, down), down)
    end
  end

  defp round_up(_mantissa, twice, divisor) when twice > divisor, do: 1
  defp round_up(mantissa, divisor, divisor), do: mantissa &&& 1
  defp round_up(_mantissa, _twice, _divisor), do: 0

  defp bit_length(value) do
    <<first, rest::binary>> = :binary.encode_unsigned(value)
    length(Integer.digits(first, 2)) + bit_size(rest)
  end
end
