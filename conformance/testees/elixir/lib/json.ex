defmodule XTrack.Json do
  @moduledoc """
  Reads JSON text, as RFC 8259 and the clauses JSN of the specification have it.

  The result is made of maps, lists, strings, `true`, `false` and `nil`. A number stays text until its slot says what it
  is to be: `{:integer, text}` without fraction and exponent, `{:decimal, text}` with either. So a number of a member that
  nobody knows costs nothing and is never too large (ENV-6.2).
  """

  @type tree ::
          nil
          | boolean
          | String.t()
          | [tree]
          | %{optional(String.t()) => tree}
          | {:integer | :decimal, String.t()}
          | :nan
          | :infinity
          | :negative_infinity

  @type option :: {:bare_tokens, boolean} | {:depth, pos_integer | :infinity}

  defguardp is_space(char) when char in [?\s, ?\t, ?\n, ?\r]
  defguardp is_digit(char) when char in ?0..?9
  defguardp is_high(unit) when unit in 0xD800..0xDBFF
  defguardp is_low(unit) when unit in 0xDC00..0xDFFF

  @doc """
  Reads one JSON text. `:bare_tokens` allows `NaN`, `Infinity` and `-Infinity` (JSN-7); `:depth` is how many arrays and
  objects may be open at once.
  """
  @spec read(binary, [option]) :: {:ok, tree} | {:error, :bad_utf8 | :bad_json | :too_deep}
  def read(text, options \\ []) do
    # The whole text first: a bad byte anywhere outweighs a bad text (ERR-2).
    if String.valid?(text) do
      read_text(text, {options[:bare_tokens] || false, options[:depth] || :infinity})
    else
      {:error, :bad_utf8}
    end
  end

  defp read_text(text, {bare_tokens, depth}) do
    {tree, rest} = text |> skip_space() |> value(depth, bare_tokens)
    if skip_space(rest) == "", do: {:ok, tree}, else: {:error, :bad_json}
  catch
    {:refused, class} -> {:error, class}
  end

  # `room` is how many more arrays and objects may be opened; :infinity is larger than any number, and stays itself.
  defp value(<<?", rest::binary>>, _room, _bare), do: string(rest, [])
  defp value(<<char, _::binary>>, 0, _bare) when char in [?{, ?[], do: throw({:refused, :too_deep})

  defp value(<<?{, rest::binary>>, room, bare) do
    case skip_space(rest) do
      <<?}, rest::binary>> -> {%{}, rest}
      rest -> members(rest, less(room), bare, [])
    end
  end

  defp value(<<?[, rest::binary>>, room, bare) do
    case skip_space(rest) do
      <<?], rest::binary>> -> {[], rest}
      rest -> elements(rest, less(room), bare, [])
    end
  end

  defp value(<<"true", rest::binary>>, _room, _bare), do: {true, rest}
  defp value(<<"false", rest::binary>>, _room, _bare), do: {false, rest}
  defp value(<<"null", rest::binary>>, _room, _bare), do: {nil, rest}
  defp value(<<"NaN", rest::binary>>, _room, true), do: {:nan, rest}
  defp value(<<"Infinity", rest::binary>>, _room, true), do: {:infinity, rest}
  defp value(<<"-Infinity", rest::binary>>, _room, true), do: {:negative_infinity, rest}
  defp value(text, _room, _bare), do: number(text)

  defp less(:infinity), do: :infinity
  defp less(room), do: room - 1

  defp members(<<?", rest::binary>>, room, bare, done) do
    {name, rest} = string(rest, [])

    case skip_space(rest) do
      <<?:, rest::binary>> ->
        {value, rest} = rest |> skip_space() |> value(room, bare)
        done = [{name, value} | done]

        case skip_space(rest) do
          <<?,, rest::binary>> -> rest |> skip_space() |> members(room, bare, done)
          # Of a name that is given twice the last one counts (JSN-5): Map.new/1 keeps it.
          <<?}, rest::binary>> -> {done |> Enum.reverse() |> Map.new(), rest}
          _ -> refuse()
        end

      _ ->
        refuse()
    end
  end

  defp members(_text, _room, _bare, _done), do: refuse()

  defp elements(text, room, bare, done) do
    {value, rest} = value(text, room, bare)
    done = [value | done]

    case skip_space(rest) do
      <<?,, rest::binary>> -> rest |> skip_space() |> elements(room, bare, done)
      <<?], rest::binary>> -> {Enum.reverse(done), rest}
      _ -> refuse()
    end
  end

  # Strings. `done` is iodata of what stands before; most strings are one run without escapes.

  defp string(text, done) do
    size = plain(text, 0)

    case text do
      <<run::binary-size(size), ?", rest::binary>> when done == [] ->
        {run, rest}

      <<run::binary-size(size), ?", rest::binary>> ->
        {IO.iodata_to_binary([done, run]), rest}

      <<run::binary-size(size), ?\\, rest::binary>> ->
        {char, rest} = escape(rest)
        string(rest, [done, run, char])

      _ ->
        refuse()
    end
  end

  defp plain(<<byte, rest::binary>>, size) when byte >= 0x20 and byte != ?" and byte != ?\\,
    do: plain(rest, size + 1)

  defp plain(_rest, size), do: size

  for {letter, char} <- [{?", ?"}, {?\\, ?\\}, {?/, ?/}, {?b, ?\b}, {?f, ?\f}, {?n, ?\n}, {?r, ?\r}, {?t, ?\t}] do
    defp escape(<<unquote(letter), rest::binary>>), do: {unquote(char), rest}
  end

  defp escape(<<?u, digits::binary-size(4), rest::binary>>), do: digits |> unit() |> pair(rest)
  defp escape(_text), do: refuse()

  defp pair(high, <<?\\, ?u, digits::binary-size(4), rest::binary>>) when is_high(high) do
    case unit(digits) do
      low when is_low(low) ->
        {<<0x10000 + (high - 0xD800) * 0x400 + (low - 0xDC00)::utf8>>, rest}

      _ ->
        refuse()
    end
  end

  # Half a pair alone (JSN-3).
  defp pair(unit, _rest) when is_high(unit) or is_low(unit), do: refuse()
  defp pair(unit, rest), do: {<<unit::utf8>>, rest}

  defp unit(digits) do
    case Base.decode16(digits, case: :mixed) do
      {:ok, <<unit::16>>} -> unit
      :error -> refuse()
    end
  end

  # Numbers: each step takes what it wants from the front and returns the rest.

  defp number(text) do
    whole = text |> minus() |> whole()
    rest = whole |> fraction() |> exponent()
    size = byte_size(text) - byte_size(rest)
    kind = if byte_size(rest) == byte_size(whole), do: :integer, else: :decimal
    {{kind, binary_part(text, 0, size)}, rest}
  end

  defp minus(<<?-, rest::binary>>), do: rest
  defp minus(text), do: text

  defp whole(<<?0, rest::binary>>), do: rest
  defp whole(text), do: some_digits(text)

  defp fraction(<<?., rest::binary>>), do: some_digits(rest)
  defp fraction(text), do: text

  defp exponent(<<e, sign, rest::binary>>) when e in [?e, ?E] and sign in [?+, ?-],
    do: some_digits(rest)

  defp exponent(<<e, rest::binary>>) when e in [?e, ?E], do: some_digits(rest)
  defp exponent(text), do: text

  defp some_digits(<<char, rest::binary>>) when is_digit(char), do: digits(rest)
  defp some_digits(_text), do: refuse()

  defp digits(<<char, rest::binary>>) when is_digit(char), do: digits(rest)
  defp digits(rest), do: rest

  defp skip_space(<<char, rest::binary>>) when is_space(char), do: skip_space(rest)
  defp skip_space(text), do: text

  defp refuse, do: throw({:refused, :bad_json})
end
