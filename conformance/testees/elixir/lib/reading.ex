defmodule XTrack.Reading do
  @moduledoc """
  Takes values out of slots: a tree of `XTrack.Json` becomes the value that the slot's kind makes of it, or the class of
  what is wrong with it. Of several faults the class that stands first in ERR-1 is told (ERR-2).
  """

  alias XTrack.{Events, Json, Number}

  import Number, only: [is_non_finite: 1]

  @type reader :: :strict | :lenient
  @type fault :: :missing_field | :bad_type | :bad_value | :out_of_range
  @type result :: {:ok, term} | {:error, fault}

  @precedence [:missing_field, :bad_type, :bad_value, :out_of_range]

  @doc "The members of an object that its table knows; the others are ignored (ENV-6)."
  @spec members([Events.member()], %{String.t() => Json.tree()}, reader) :: result
  def members(members, object, reader) do
    members
    |> Enum.flat_map(fn {name, slot, need} ->
      case member(slot, need, Map.fetch(object, name), reader) do
        :absent -> []
        result -> [{name, result}]
      end
    end)
    |> gather()
    |> then(fn result -> with {:ok, pairs} <- result, do: {:ok, Map.new(pairs)} end)
  end

  @doc "The first of some classes in the order of ERR-1."
  @spec foremost([fault]) :: fault
  def foremost(faults), do: Enum.find(@precedence, &(&1 in faults))

  # What counts as absence: JSN-6, JSN-6.5, JSN-6.6.
  defp member(_slot, :required, :error, _reader), do: {:error, :missing_field}
  defp member(_slot, :optional, :error, _reader), do: :absent
  defp member(slot, :optional, {:ok, nil}, _reader) when slot != :free, do: :absent
  defp member({:list, _}, :optional, {:ok, []}, _reader), do: :absent
  defp member({:map, _}, :optional, {:ok, map}, _reader) when map == %{}, do: :absent
  defp member(:id, :optional, {:ok, ""}, _reader), do: :absent
  defp member(slot, _need, {:ok, tree}, reader), do: slot(slot, tree, reader)

  @doc "The value of one slot."
  @spec slot(Events.slot(), Json.tree(), reader) :: result
  def slot(:integer, {:integer, text}, _reader), do: Number.int64(text)
  def slot(:integer, {:decimal, text}, _reader), do: Number.integral(text)

  def slot(:number, {_, _} = number, _reader), do: number(number)
  def slot(:number, number, _reader) when is_non_finite(number), do: {:ok, number}
  def slot(:number, true, :lenient), do: {:ok, 1}
  def slot(:number, false, :lenient), do: {:ok, 0}

  def slot(:number, name, _reader) when is_binary(name) do
    with :error <- Number.named(name), do: {:error, :bad_type}
  end

  def slot(:boolean, value, _reader) when is_boolean(value), do: {:ok, value}

  def slot(kind, text, _reader)
      when kind in [:string, :id, :checksum] and is_binary(text),
      do: {:ok, text}

  def slot({:one_of, texts}, text, _reader) when is_binary(text) do
    if text in texts, do: {:ok, text}, else: {:error, :bad_value}
  end

  # A string here is a text for people, "NaN" included (EVT-RUN_START-5.1).
  def slot(:memory, text, _reader) when is_binary(text), do: {:ok, text}
  def slot(:memory, tree, reader), do: slot(:number, tree, reader)

  def slot(kind, id, _reader) when kind in [:run_id, :start_run_id] and is_binary(id),
    do: {:ok, id}

  def slot(kind, %{} = object, reader) when kind in [:run_id, :start_run_id] do
    case members(Events.run_identity(), object, reader) do
      # The same run as the string (EVT-1.4), so the same value.
      {:ok, %{"id" => id} = identity} when map_size(identity) == 1 -> {:ok, id}
      result -> result
    end
  end

  def slot(:refusal, [seq, code], reader) do
    with {:ok, pairs} <-
           gather([{:seq, slot(:integer, seq, reader)}, {:code, slot(:string, code, reader)}]),
         do: {:ok, Keyword.values(pairs)}
  end

  def slot({:list, slot}, list, reader) when is_list(list) do
    with {:ok, pairs} <- gather(Enum.map(list, &{nil, slot(slot, &1, reader)})),
         do: {:ok, Enum.map(pairs, &elem(&1, 1))}
  end

  def slot({:map, slot}, %{} = map, reader) do
    with {:ok, pairs} <- gather(Enum.map(map, fn {name, tree} -> {name, slot(slot, tree, reader)} end)),
         do: {:ok, Map.new(pairs)}
  end

  def slot({:object, members}, %{} = object, reader), do: members(members, object, reader)
  def slot(:free, tree, _reader), do: free(tree)
  def slot(_slot, _tree, _reader), do: {:error, :bad_type}

  # Free slots (VAL-4). A boolean stays one, for lenient readers too.

  defp free({_, _} = number), do: number(number)
  defp free(list) when is_list(list), do: slot({:list, :free}, list, :strict)

  defp free(%{"$float" => name} = object) when map_size(object) == 1 and is_binary(name) do
    with :error <- Number.named(name), do: {:ok, object}
  end

  defp free(%{} = object), do: slot({:map, :free}, object, :strict)
  defp free(other), do: {:ok, other}

  # Exact where it is an int64, else the nearest binary64 (VAL-2.1 to VAL-2.5).
  defp number({:integer, text}) do
    with {:error, _} <- Number.int64(text), do: Number.nearest(text)
  end

  defp number({:decimal, text}), do: Number.nearest(text)

  # {key, result} pairs to {:ok, {key, value} pairs}, or the foremost fault.
  defp gather(results) do
    case for({_key, {:error, fault}} <- results, uniq: true, do: fault) do
      [] -> {:ok, Enum.map(results, fn {key, {:ok, value}} -> {key, value} end)}
      faults -> {:error, foremost(faults)}
    end
  end
end
