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
