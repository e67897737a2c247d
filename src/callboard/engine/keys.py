"""Key names for reads: the mirror of ``lua/include/keys.lua``, compared with it by a test."""

from __future__ import annotations

FORMAT = "callboard:format"


def prefix_of(namespace: str) -> str:
    """The prefix of all keys: none for the default namespace, else ``{name}:``, a hash tag."""
    return f"{{{namespace}}}:" if namespace else ""


class Keys:
    """The keys of one namespace that are read, or listened to, from outside the functions."""

    def __init__(self, namespace: str) -> None:
        self.prefix = prefix_of(namespace)
        self.format = self.prefix + FORMAT
        self.boards = self.prefix + "boards"
        self.events = self.prefix + "events"
        self.events_bell = self.prefix + "bell:events"
        self.dispatch_bell = self.prefix + "bell:dispatch"
        self.runs = self.prefix + "runs"
        self.teams = self.prefix + "teams"
        self.locks = self.prefix + "locks"
        self.locks_waits = self.prefix + "locks:waits"
        self.locks_incidents = self.prefix + "locks:incidents"
        self.decisions = self.prefix + "scheduler:decisions"
        self.recurring = self.prefix + "recurring"
        self.flow_limits = self.prefix + "flow:limits"
        self.flow_patterns = self.prefix + "flow:patterns"
        self.audit = self.prefix + "access:audit"
        self.error_counters = self.prefix + "errors:counters"
        self.error_cascades = self.prefix + "errors:correlations:log"

    def held(self, agent: str) -> str:
        """Sorted set of the tasks that an agent holds, as ``board:id``, by fence."""
        return f"{self.prefix}held:{agent}"

    def agent_bell(self, agent: str, instance: str) -> str:
        """The channel that wakes one instance."""
        return f"{self.prefix}bell:agent:{agent}/{instance}"

    def board_bell(self, board: str) -> str:
        """The channel that says that a board's journal has news."""
        return f"{self.prefix}bell:board:{board}"

    def settings(self, board: str) -> str:
        """Hash of a board's settings."""
        return f"{self.prefix}tasks:{board}:board"

    def at_hand(self, board: str) -> tuple[str, str, str]:
        """What exists where a board has something to give out: ready tasks, or reserved ones."""
        base = f"{self.prefix}tasks:{board}"
        return f"{base}:heads", f"{base}:fair", f"{base}:reserved"

    def waiting(self, board: str) -> tuple[str, ...]:
        """What exists where a board has tasks that may be given out, now or at their time."""
        base = f"{self.prefix}tasks:{board}"
        tail = "" if board == "default" else f":{board}"
        retry = f"{self.prefix}retry:queue{tail}"
        return (*self.at_hand(board), f"{base}:scheduled", retry)

    def journal(self, board: str) -> str:
        """Stream of a board's events, where it keeps them for as long as it stands."""
        return f"{self.prefix}tasks:{board}:journal"

    def tasks(self, board: str) -> str:
        """Hash of task id to the JSON body as submitted."""
        return f"{self.prefix}tasks:{board}"

    def attempts(self, board: str, task: str) -> str:
        """List of the failed attempts of a task, oldest first, as JSON."""
        return f"{self.prefix}tasks:{board}:attempts:{task}"

    def notes(self, board: str, task: str) -> str:
        """List of a task's notes, oldest first, as JSON."""
        return f"{self.prefix}tasks:{board}:notes:{task}"

    def dead_letters(self, board: str) -> str:
        """Sorted set of dead letters by the time (ms) they were buried."""
        suffix = "" if board == "default" else f":{board}"
        return f"{self.prefix}retry:dead_letter_queue{suffix}"

    def run(self, run: str) -> str:
        """Hash of what is true of a run itself; its tasks stand on the board of its name."""
        return f"{self.prefix}run:{run}"

    def team(self, team: str) -> str:
        """Hash of version to a team's document with who saved it, as JSON."""
        return f"{self.prefix}team:{team}"

    def completed_channel(self) -> str:
        """The documented channel on which each completion is published."""
        return f"{self.prefix}events:tasks:completed"

    def error_details(self, project: str, task: str) -> str:
        """Hash of what is known of a task's last error."""
        suffix = "" if project == "default" else f":{project}"
        return f"{self.prefix}errors:task:{task}:details{suffix}"

    def retry_channel(self, kind: str) -> str:
        """The documented channels ``retry_scheduled``, ``retry_success``, ``retry_exhausted``."""
        return f"{self.prefix}events:errors:{kind}"

    def inbox_bell(self, agent: str) -> str:
        """The channel that says that an agent has messages to take."""
        return f"{self.prefix}bell:inbox:{agent}"

    def broadcast_bell(self) -> str:
        """The channel that says that there is a broadcast."""
        return f"{self.prefix}bell:broadcasts"

    def reply_bell(self, request: str) -> str:
        """The channel that says that a request was answered."""
        return f"{self.prefix}bell:reply:{request}"

    def context(self, project: str) -> str:
        """Hash of a context's fields, as plain text."""
        return f"{self.prefix}context:project:{project}"

    def activity(self, agent_type: str) -> str:
        """The documented hash of what the agents of a type say they are doing."""
        return f"{self.prefix}agent:status:{agent_type}"

    def context_channel(self) -> str:
        """The documented channel on which each change of a context is published."""
        return f"{self.prefix}events:context:updated"

    def breaker(self, component: str) -> str:
        """The documented hash of a component's circuit breaker."""
        return f"{self.prefix}circuit_breakers:{component}"

    def breaker_channel(self) -> str:
        """The documented channel on which each change of a breaker's state is published."""
        return f"{self.prefix}events:errors:circuit_breakers"

    def lock(self, resource: str) -> str:
        """Hash of who holds a resource; its field ``~`` is not an owner."""
        return f"{self.prefix}lock:{resource}"

    def lock_owner(self, owner: str) -> str:
        """Hash of what an owner holds: a field each resource."""
        return f"{self.prefix}lockowner:{owner}"

    def locks_bell(self, client: str) -> str:
        """The channel that wakes one client that waits for locks, or holds them."""
        return f"{self.prefix}bell:locks:{client}"
