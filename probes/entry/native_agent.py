"""Try the agent natively: whether this kernel runs it, and by which gates it calls."""

from __future__ import annotations

from probes.entry.agent import Agent
from probes.entry.agent_frames import AgentError
from probes.entry.agent_gate import AgentGate, gate_names

_GETPID = 20


class CannotRun(Exception):
    """The agent does not run here; the text says why."""


def gates() -> tuple[AgentGate, ...]:
    """Return the gates of a native agent as a tracer knows them, each tried by one call. Raises CannotRun."""
    try:
        with Agent() as agent:
            found = tuple(AgentGate(agent, name) for name in gate_names(agent))
            for gate in found:
                if gate.enter(_GETPID) != agent.info.pid:
                    raise CannotRun(f"getpid by {gate.name} does not return the process id")
            return found
    except OSError as error:
        why = f"this kernel does not run 32-bit programs ({error.strerror}); it needs CONFIG_IA32_EMULATION"
        raise CannotRun(why) from error
    except AgentError as error:
        raise CannotRun(str(error)) from error
