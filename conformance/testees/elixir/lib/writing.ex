defmodule XTrack.Writing do
  @moduledoc """
  Puts values into slots: the JSON text of a value in the one form that a writer may use, or `throw({:refused, class})`
  where the slot has no form for it.

  `room` is how many arrays and objects may still be opened around a value, so that no reader finds it too deep (JSN-2).
  """

  alias XTrack.{Events, JsonText, Number}

  import Number, only: [is_int64: 1, is_non_finite: 1]

  @doc "An object with the members of a table, in the table's order."
  @spec members([Events.member()], map, integer) :: iodata
  def members(members, object, room) do
    room = open(room)

    members
    |> Enum.flat_map(fn {name, slot, need} ->
      case member(slot, need, Map.fetch(object, name)) do
        :absent -> []
        {:ok, value} -> [{name, slot(slot, value, room)}]
      end
    end)
    |> JsonText.object()
  end

  # What is absent is left out (JSN-6.4), and so is what reads as absence.
  defp member(_slot, :required, :error), do: refuse(:missing_field)
  defp member(_slot, :optional, :error), do: :absent
  defp member(slot, :optional, {:ok, nil}) when slot != :free, do: :absent
  defp member({:list, _}, :optional, {:ok, []}), do: :absent
  defp member({:map, _}, :optional, {:ok, map}) when map == %{}, do: :absent
  defp member(:id, :optional, {:ok, ""}), do: :absent
  defp member(_slot, _need, {:ok, value}), do: {:ok, value}

  @doc "The text of one value."
  @spec slot(Events.slot(), term, integer) :: iodata
  def slot(:integer, value, _room) when is_int64(value), do: JsonText.integer(value)
  def slot(:integer, value, _room) when is_integer(value), do: refuse(:out_of_range)

  # An integer that came as a float is written in digits (JSN-4.2).
  def slot(:integer, value, room) when is_float(value) do
    if trunc(value) == value, do: slot(:integer, trunc(value), room), else: refuse(:bad_type)
  end

  def slot(:number, true, _room), do: JsonText.integer(1)
  def slot(:number, false, _room), do: JsonText.integer(0)
  def slot(:number, value, _room) when is_non_finite(value), do: JsonText.string(Number.name(value))
  def slot(:number, value, _room) when is_number(value), do: number(value)

  def slot(:boolean, value, _room) when is_boolean(value), do: JsonText.literal(value)
  def slot(kind, text, _room) when kind in [:string, :id] and is_binary(text), do: JsonText.string(text)
  def slot(:checksum, text, _room) when is_binary(text), do: text |> sha256() |> JsonText.string()

  def slot({:one_of, texts}, text, _room) when is_binary(text) do
    if text in texts, do: JsonText.string(text), else: refuse(:bad_value)
  end

  def slot(:memory, text, _room) when is_binary(text), do: JsonText.string(text)
  # The three strings of VAL-3 are strings here (EVT-RUN_START-5.1), so these numbers have no form.
  def slot(:memory, value, _room) when is_non_finite(value), do: refuse(:bad_value)
  def slot(:memory, value, room), do: slot(:number, value, room)

  # The string form, but for a run_start that has more to tell (EVT-1.5, EVT-1.6).
  def slot(kind, id, _room) when kind in [:run_id, :start_run_id] and is_binary(id),
    do: JsonText.string(id)

  def slot(:start_run_id, %{"exp_id" => id} = identity, room) when id != nil,
    do: members(Events.run_identity(), identity, room)

  def slot(:start_run_id, %{"parent_id" => id} = identity, room) when id != nil,
    do: members(Events.run_identity(), identity, room)

  def slot(kind, %{"id" => id}, room) when kind in [:run_id, :start_run_id], do: slot(:string, id, room)
  def slot(kind, %{}, _room) when kind in [:run_id, :start_run_id], do: refuse(:missing_field)

  def slot(:refusal, [seq, code], room) do
    room = open(room)
    JsonText.list([slot(:integer, seq, room), slot(:string, code, room)])
  end

  def slot({:list, slot}, list, room) when is_list(list) do
    room = open(room)
    list |> Enum.map(&slot(slot, &1, room)) |> JsonText.list()
  end

  # By name, so that the same map always gives the same bytes (ENV-7.3).
  def slot({:map, slot}, %{} = map, room) do
    room = open(room)
    map |> Enum.sort() |> Enum.map(fn {name, value} -> {name, slot(slot, value, room)} end) |> JsonText.object()
  end

  def slot({:object, members}, %{} = object, room), do: members(members, object, room)
  def slot(:free, value, room), do: free(value, room)
  def slot(_slot, _value, _room), do: refuse(:bad_type)

  defp free(value, _room) when is_boolean(value) or value == nil, do: JsonText.literal(value)

  defp free(value, room) when is_non_finite(value) do
    _room = open(room)
    JsonText.object([{"$float", JsonText.string(Number.name(value))}])
  end

  defp free(value, _room) when is_number(value), do: number(value)
  defp free(text, _room) when is_binary(text), do: JsonText.string(text)
  defp free(list, room) when is_list(list), do: slot({:list, :free}, list, room)

  # This form is a number's; an object that happens to look like it has none (VAL-4.5).
  defp free(%{"$float" => name} = object, room) when map_size(object) == 1 and is_binary(name) do
    case Number.named(name) do
      {:ok, _} -> refuse(:bad_value)
      :error -> slot({:map, :free}, object, room)
    end
  end

  defp free(%{} = object, room), do: slot({:map, :free}, object, room)

  defp number(value) when is_float(value), do: JsonText.float(value)
  defp number(value) when is_int64(value), do: JsonText.integer(value)
  defp number(_value), do: refuse(:out_of_range)

  # VAL-8; any other checksum stays as it is.
  defp sha256(text) do
    case Regex.run(~r/\A(?:sha256:)?([0-9a-fA-F]{64})\z/, text) do
      [_, digits] -> "sha256:" <> String.downcase(digits)
      nil -> text
    end
  end

  defp open(0), do: refuse(:too_deep)
  defp open(room), do: room - 1

  @spec refuse(atom) :: no_return
  defp refuse(class), do: throw({:refused, class})
end
