defmodule XTrack.Events do
  @moduledoc """
  The tables of events.md and control.md: the members of every event's body, in the order in which they are written.

  A member is `{name, slot, :required | :optional}`. What a slot takes and gives is in `XTrack.Reading` and
  `XTrack.Writing`.
  """

  @type slot ::
          :integer
          | :number
          | :boolean
          | :string
          | :free
          | :id
          | :run_id
          | :start_run_id
          | :checksum
          | :memory
          | :refusal
          | {:one_of, [String.t()]}
          | {:list, slot}
          | {:map, slot}
          | {:object, [member]}
  @type member :: {String.t(), slot, :required | :optional}

  # An id that is as good as absent when it is "" (JSN-6.6).
  @meta [
    {"seq", :integer, :required},
    {"ts", :integer, :required},
    {"wid", :id, :optional},
    {"sid", :id, :optional}
  ]

  @run_identity [
    {"id", :string, :required},
    {"exp_id", :string, :optional},
    {"parent_id", :string, :optional}
  ]

  @run {"run_id", :run_id, :required}

  @source [
    {"git_commit", :string, :optional},
    {"git_branch", :string, :optional},
    {"git_repo", :string, :optional},
    {"entrypoint", :string, :optional},
    {"code_hash", :string, :optional}
  ]

  @accelerator [{"name", :string, :optional}, {"memory", :memory, :optional}]

  @environment [
    {"python_version", :string, :optional},
    {"platform", :string, :optional},
    {"hostname", :string, :optional},
    {"gpu_info", {:list, {:object, @accelerator}}, :optional},
    {"env_vars", {:map, :string}, :optional}
  ]

  @resume [{"sids", {:list, :string}, :optional}, {"rewind_to", :integer, :optional}]

  @run_start [
    {"run_id", :start_run_id, :required},
    {"name", :string, :optional},
    {"tags", {:map, :string}, :optional},
    {"source", {:object, @source}, :optional},
    {"env", {:object, @environment}, :optional},
    {"resume", {:object, @resume}, :optional},
    {"world_size", :integer, :optional},
    {"sub", :boolean, :optional},
    {"observer", :boolean, :optional}
  ]

  @error [
    {"type", :string, :optional},
    {"message", :string, :optional},
    {"traceback", :string, :optional}
  ]

  @run_end [
    @run,
    {"status", {:one_of, ~w(completed failed killed)}, :required},
    {"error", {:object, @error}, :optional},
    {"final_metrics", {:map, :number}, :optional},
    {"duration_ms", :integer, :optional}
  ]

  @param [
    @run,
    {"key", :string, :required},
    {"value", :free, :required},
    {"nested_key", {:list, :string}, :optional}
  ]

  @context [
    {"phase", :string, :optional},
    {"batch_size", :integer, :optional},
    {"dataset_size", :integer, :optional},
    {"agg", :string, :optional}
  ]

  @point [
    {"step", :integer, :optional},
    {"epoch", :integer, :optional},
    {"ctx", {:object, @context}, :optional}
  ]

  @metric [@run, {"key", :string, :required}, {"value", :number, :required}] ++ @point
  @metric_batch [@run, {"metrics", {:map, :number}, :required}] ++ @point

  @artifact [
    @run,
    {"path", :string, :required},
    {"type", :string, :optional},
    {"name", :string, :optional},
    {"meta", {:map, :free}, :optional},
    {"size", :integer, :optional},
    {"checksum", :checksum, :optional},
    {"upload", {:one_of, ~w(reference inline stream)}, :optional}
  ]

  @checkpoint [
    @run,
    {"step", :integer, :required},
    {"path", :string, :required},
    {"epoch", :integer, :optional},
    {"metrics", {:map, :number}, :optional},
    {"is_best", :boolean, :optional},
    {"best_key", :string, :optional},
    {"meta", {:map, :free}, :optional}
  ]

  @progress [
    {"cur", :integer, :optional},
    {"total", :integer, :optional},
    {"unit", :string, :optional}
  ]

  @statuses ~w(initializing running training evaluating checkpointing paused resuming finishing completed failed killed)
  @status [
    @run,
    {"status", {:one_of, @statuses}, :required},
    {"msg", :string, :optional},
    {"progress", {:object, @progress}, :optional}
  ]

  @levels ~w(debug info warning error)
  @log [
    @run,
    {"level", {:one_of, @levels}, :required},
    {"msg", :string, :required},
    {"logger", :string, :optional},
    {"step", :integer, :optional},
    {"fields", {:map, :free}, :optional}
  ]

  @alert [
    @run,
    {"title", :string, :required},
    {"text", :string, :optional},
    {"level", {:one_of, @levels}, :optional},
    {"key", :string, :optional}
  ]

  @ack [
    {"seq", :integer, :required},
    {"status", {:one_of, ~w(ok error)}, :required},
    {"error", :string, :optional},
    {"run_id", :run_id, :optional},
    {"wid", :id, :optional},
    {"sid", :id, :optional},
    {"rejected", {:list, :refusal}, :optional}
  ]

  @command [
    {"cmd_id", :string, :required},
    {"type", :string, :required},
    {"payload", {:map, :free}, :optional},
    {"run_id", :run_id, :optional},
    {"wid", :id, :optional}
  ]

  @command_result [
    @run,
    {"cmd_id", :string, :required},
    {"status", {:one_of, ~w(ok error)}, :required},
    {"msg", :string, :optional},
    {"wid", :id, :optional},
    {"left", :integer, :optional}
  ]

  @hello [
    {"protocols", {:list, :integer}, :required},
    {"codecs", {:list, :string}, :optional},
    {"features", {:list, :string}, :optional},
    {"agent", :string, :optional},
    {"auth", {:object, [{"scheme", :string, :required}, {"key", :string, :optional}]}, :optional}
  ]

  @limits [
    {"max_frame", :integer, :optional},
    {"window_events", :integer, :optional},
    {"window_bytes", :integer, :optional}
  ]

  @welcome [
    {"protocol", :integer, :required},
    {"codec", :string, :required},
    {"durability", {:one_of, ~w(none process power)}, :required},
    {"features", {:list, :string}, :optional},
    {"limits", {:object, @limits}, :optional}
  ]

  @reject [
    {"code", :string, :required},
    {"msg", :string, :optional},
    {"retry_after", :number, :optional}
  ]

  @open [
    @run,
    {"sid", :string, :required},
    {"wid", :id, :optional},
    {"passive", :boolean, :optional}
  ]

  @skip [
    @run,
    {"sid", :string, :required},
    {"from", :integer, :required},
    {"to", :integer, :required},
    {"reason", :string, :optional},
    {"wid", :id, :optional}
  ]

  @subscribe [@run, {"from", :integer, :optional}, {"until_end", :boolean, :optional}]
  @unsubscribe [@run, {"code", :string, :optional}, {"msg", :string, :optional}]

  @of_runs %{
    "run_start" => @run_start,
    "run_end" => @run_end,
    "param" => @param,
    "metric" => @metric,
    "metric_batch" => @metric_batch,
    "artifact" => @artifact,
    "checkpoint" => @checkpoint,
    "status" => @status,
    "log" => @log,
    "tags" => [@run, {"tags", {:map, :string}, :required}],
    "alert" => @alert,
    "summary" => [@run, {"values", {:map, :number}, :required}]
  }

  @control %{
    "command" => @command,
    "ack" => @ack,
    "command_result" => @command_result,
    "hello" => @hello,
    "welcome" => @welcome,
    "reject" => @reject,
    "open" => @open,
    "skip" => @skip,
    "ping" => [],
    "pong" => [],
    "subscribe" => @subscribe,
    "unsubscribe" => @unsubscribe
  }

  @doc "The members of `m`."
  @spec meta() :: [member]
  def meta, do: @meta

  @doc "The members of a run id that is an object."
  @spec run_identity() :: [member]
  def run_identity, do: @run_identity

  @doc "Whether events of a type belong to a run or to a connection, and the slot of their body."
  @spec body(String.t()) :: {:of_run | :control | :unknown, slot}
  def body(type) do
    case {@of_runs, @control} do
      {%{^type => members}, _} -> {:of_run, {:object, members}}
      {_, %{^type => members}} -> {:control, {:object, members}}
      # Nobody knows its members; the rules of values hold in them all the same (ENV-5.1).
      _ -> {:unknown, {:map, :free}}
    end
  end
end
