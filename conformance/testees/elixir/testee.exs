# The testee of an XTrack implementation in Elixir, written from docs/spec alone. Needs Elixir 1.14 and OTP 25, and no
# packages:
#
#     python -m xtrack_conformance run -- elixir conformance/testees/elixir/testee.exs

{:ok, _modules, _warnings} =
  __DIR__
  |> Path.join("lib/*.ex")
  |> Path.wildcard()
  |> Kernel.ParallelCompiler.compile()

XTrack.Testee.run()
