"""Locks in plain Python: what the engine must answer, and which deadlocks there are.

Written from the rules, not from the functions: after each step whoever nothing blocks has
been given its set, in the order of the line, whichever names were freed; and a deadlock is
what is left when all who can still run have been taken out of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from callboard.domain.lock import overlap

TAKE_UP_MS = 2_000
WAIT_LEASE_MS = 5_000
RESERVES_US = 2_000_000
PRIORITY_US = 1_000_000
VICTIM_GRACE_MS = 5_000


@dataclass
class Holding:
    """An owner's hold on a name. Fences are numbers of grants, in their order."""

    mode: str
    first: int
    fence: int
    deadline: int
    operation: str
    mark: str = ""
    count: int = 1


@dataclass
class Wait:
    """An owner's place in line, for all of its names at once."""

    owner: str
    names: tuple[str, ...]
    mode: str
    limit: int | None
    priority: int
    since: int
    deadline: int
    lease: int
    operation: str
    due: int = 0
    state: str = "w"

    @property
    def place(self) -> tuple[int, str]:
        return (self.since - self.priority * PRIORITY_US, self.owner)

    @property
    def is_waiting(self) -> bool:
        return self.state in ("w", "r")


@dataclass(frozen=True)
class Group:
    """Who is in the way: all of them have to go, or of a full semaphore any one."""

    members: tuple[tuple[str, str], ...]
    is_any: bool = False

    @property
    def owners(self) -> set[str]:
        return {owner for owner, _ in self.members}


@dataclass
class Plain:
    """All locks of a namespace.

    Attributes:
        fences: Grants and the like so far: each takes the next number.
        parked: Claims that wait for another claim's task, and since when.
        verdicts: Victims that were not told yet, and have not begun to wait anew.
        karma: How often each owner was a victim.
        forced: What victims lose, and when, by name, owner and fence.
    """

    now: int
    holders: dict[str, dict[str, Holding]] = field(default_factory=dict)
    waits: dict[str, Wait] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    parked: dict[str, tuple[str, int]] = field(default_factory=dict)
    verdicts: set[str] = field(default_factory=set)
    karma: dict[str, int] = field(default_factory=dict)
    forced: dict[tuple[str, str, int], int] = field(default_factory=dict)
    fences: int = 0

    @property
    def ms(self) -> int:
        return self.now // 1_000

    def take_fence(self) -> int:
        self.fences += 1
        return self.fences

    def of(self, name: str) -> dict[str, Holding]:
        return self.holders.setdefault(name, {})

    def line(self) -> list[Wait]:
        return sorted((w for w in self.waits.values() if w.is_waiting), key=lambda w: w.place)

    def active(self) -> set[str]:
        """Names that are held or waited for."""
        held = {name for name, found in self.holders.items() if found}
        return held | {
            name for wait in self.waits.values() if wait.is_waiting for name in wait.names
        }

    def held_by(self, owner: str) -> list[str]:
        return [name for name, found in self.holders.items() if owner in found]

    # Who is in the way

    def needs(self, name: str, wait: Wait) -> str | None:
        own = self.of(name).get(wait.owner)
        if own is None:
            return "all"
        if own.mode in ("x", wait.mode):
            return None
        return "upgrade" if wait.mode == "x" else "other"

    def blockers(self, wait: Wait) -> list[Group]:
        """What keeps it from being granted; nothing where it can be."""
        everyone: list[tuple[str, str]] = []
        groups: list[Group] = []
        for name in wait.names:
            needs = self.needs(name, wait)
            if needs is None:
                continue
            is_within = needs == "upgrade"
            for spot in self.meeting(name):
                permits = []
                for owner, holding in self.of(spot).items():
                    if owner == wait.owner:
                        is_within = is_within or holding.mode in ("x", wait.mode)
                    elif spot == name and holding.mode == wait.mode == "p":
                        permits.append((owner, spot))
                    elif not holding.mode == wait.mode == "s":
                        everyone.append((owner, spot))
                if wait.limit is not None and len(permits) >= wait.limit:
                    groups.append(Group(tuple(permits), is_any=True))
            if not is_within:
                everyone += self._reserved_before(wait, name)
        return [*groups, Group(tuple(everyone))] if everyone else groups

    def meeting(self, name: str) -> list[str]:
        """The names in use that mean some of the same things, this one first."""
        return [name, *sorted(o for o in self.active() - {name} if overlap(name, o))]

    def _reserved_before(self, wait: Wait, name: str) -> Iterator[tuple[str, str]]:
        for other in self.waits.values():
            if other.state != "r" or other.owner == wait.owner or other.place >= wait.place:
                continue
            if other.mode == wait.mode == "s":
                continue
            for spot in other.names:
                if spot == name or overlap(spot, name):
                    yield other.owner, spot

    # Granting

    def grant(self, wait: Wait, *, is_handed: bool) -> None:
        """Make it the holder of its set, under one fence for all that is new."""
        missing = [name for name in wait.names if self.needs(name, wait)]
        fence = self.take_fence() if missing or is_handed else 0
        for name in wait.names:
            needs, own = self.needs(name, wait), self.of(name).get(wait.owner)
            if own is None:
                until = self.ms + (TAKE_UP_MS if is_handed else wait.lease)
                mark = "h" if is_handed else ""
                own = Holding(wait.mode, fence, fence, until, wait.operation, mark)
                self.of(name)[wait.owner] = own
                if wait.limit is not None:
                    self.limits[name] = wait.limit
                continue
            if needs == "upgrade":
                own.mode, own.fence = "x", fence
                own.mark = "u" if is_handed else own.mark
            if not is_handed:
                own.count += 1
                own.operation = wait.operation
                own.deadline = max(own.deadline, self.ms + wait.lease)

    def serve(self) -> None:
        """Give to everyone in line, in order, what nothing blocks; the dead leave the line."""
        while True:
            ready = next((w for w in self.line() if not self.blockers(w)), None)
            if ready is None:
                return
            if ready.due <= self.ms:
                del self.waits[ready.owner]
            else:
                self.grant(ready, is_handed=True)
                ready.state, ready.due = "g", self.ms + TAKE_UP_MS

    def settle(self) -> None:
        """What is nobody's forgets how many permits there were."""
        active = self.active()
        for name in [name for name in self.limits if name not in active]:
            del self.limits[name]

    def end_wait(self, owner: str) -> None:
        """Take it out of line; what was handed to it and not taken up goes back."""
        wait = self.waits.pop(owner, None)
        if wait is None or wait.state != "g":
            return
        for name in wait.names:
            own = self.of(name).get(owner)
            if own is not None and own.mark == "h":
                del self.of(name)[owner]
            elif own is not None and own.mark == "u":
                own.mode, own.mark = "s", ""

    def drop_overdue(self, names: Iterable[str], but: str = "") -> bool:
        spots = {spot for name in names for spot in self.meeting(name)}
        dropped = False
        for spot in spots:
            for owner, own in list(self.of(spot).items()):
                if owner != but and own.mark != "h" and own.deadline <= self.ms:
                    del self.of(spot)[owner]
                    dropped = True
        return dropped

    # Operations, up to where deadlocks are looked for

    def acquire(self, wait: Wait) -> str:
        """``ok``, ``lock_held``, ``waiting`` (in line now, not yet served), or a refusal."""
        wants_to_wait = wait.deadline > self.ms
        own = self.waits.get(wait.owner)
        if own is not None and (wants_to_wait or own.state == "g"):
            return "already_waiting"
        for name in wait.names:
            if self.needs(name, wait) == "other":
                return "lock_mismatch"
            if own is not None and name in own.names and {own.mode, wait.mode} == {"s", "p"}:
                return "lock_mismatch"
            known = self.limits.get(name)
            if wait.mode == "p" and known is not None and known != wait.limit:
                return "lock_mismatch"
        if self.drop_overdue(wait.names, but=wait.owner):
            self.serve()
        if not self.blockers(wait):
            self.grant(wait, is_handed=False)
            return "ok"
        if not wants_to_wait:
            return "lock_held"
        wait.due = min(wait.deadline, self.ms + WAIT_LEASE_MS)
        self.waits[wait.owner] = wait
        self.verdicts.discard(wait.owner)
        if wait.limit is not None:
            for name in wait.names:
                self.limits[name] = wait.limit
        return "waiting"

    def take_up(self, wait: Wait) -> bool:
        """Whether all that was handed to it is still there: from here its lease runs."""
        if any(wait.owner not in self.of(name) for name in wait.names):
            return False
        for name in wait.names:
            own = self.of(name)[wait.owner]
            if own.mark == "h":
                own.deadline = self.ms + wait.lease
            else:
                own.count += 1
                own.deadline = max(own.deadline, self.ms + wait.lease)
            own.mark, own.operation = "", wait.operation
        del self.waits[wait.owner]
        return True

    def hear(self, owner: str, operation: str) -> str:
        """What an owner that asks is told: ``waiting``, ``ok``, ``deadlock_victim``, ``gone``."""
        if owner in self.verdicts:
            self.verdicts.discard(owner)
            return "deadlock_victim"
        wait = self.waits.get(owner)
        if wait is None or wait.operation != operation:
            return "gone"
        if wait.state == "g":
            if self.take_up(wait):
                return "ok"
            self.end_wait(owner)
            return "gone"
        wait.due = min(wait.deadline, self.ms + WAIT_LEASE_MS)
        if self.now - wait.since >= RESERVES_US:
            wait.state = "r"
        return "waiting"

    def renew(self, owner: str, name: str, fence: int | None, lease: int) -> str:
        own = self._held(owner, name, fence)
        if own is None:
            return "lock_lost"
        own.deadline = max(own.deadline, self.ms + lease)
        return "ok"

    def release(self, owner: str, name: str, fence: int | None, operation: str) -> str:
        own = self._held(owner, name, fence)
        if own is None:
            return "lock_lost"
        if own.operation == operation:
            return "kept"
        if own.count > 1:
            own.count, own.operation = own.count - 1, operation
            return "kept"
        del self.of(name)[owner]
        return "ok"

    def _held(self, owner: str, name: str, fence: int | None) -> Holding | None:
        own = self.of(name).get(owner)
        if own is None or own.mark == "h":
            return None
        return own if fence is None or own.first <= fence <= own.fence else None

    def leave(self, owner: str) -> int:
        self.end_wait(owner)
        names = self.held_by(owner)
        for name in names:
            del self.of(name)[owner]
        self.parked.pop(owner, None)
        self.verdicts.discard(owner)
        return len(names)

    def park(self, owner: str, other: str) -> None:
        """A claim waits for the task of another claim."""
        self.verdicts.discard(owner)
        self.parked[owner] = (other, self.now)

    def unpark(self, owner: str) -> None:
        self.verdicts.discard(owner)
        self.parked.pop(owner, None)

    def force(self, name: str, owner: str) -> bool:
        owners = [one for one in self.of(name) if owner in ("", one)]
        for one in owners:
            del self.of(name)[one]
        if owners:
            self.take_fence()
        return bool(owners)

    def sweep(self) -> None:
        for found in self.holders.values():
            for owner, own in list(found.items()):
                if own.mark != "h" and own.deadline <= self.ms:
                    del found[owner]
        for owner in [o for o, w in self.waits.items() if w.due <= self.ms]:
            self.end_wait(owner)
        for (name, owner, fence), due in list(self.forced.items()):
            if due <= self.ms:
                del self.forced[name, owner, fence]
                kept = self.of(name).get(owner)
                if kept is not None and kept.first <= fence <= kept.fence:
                    del self.of(name)[owner]
                    self.take_fence()

    # Deadlocks

    def stuck(self) -> dict[str, list[list[Group]]]:
        """The owners that can never go on, each with what it waits for.

        Whoever waits for nobody can run, and so will go; then whoever waited only for
        those can, and so on. Who is left is stuck.
        """
        left = {
            owner: self.alternatives(owner)
            for owner in {*self.waits, *self.parked}
            if self.alternatives(owner)
        }
        while True:
            free = [owner for owner, each in left.items() if not self._is_stuck(each, left)]
            if not free:
                return left
            for owner in free:
                del left[owner]

    def alternatives(self, owner: str) -> list[list[Group]]:
        """All that an owner waits for; it goes on with whichever comes first."""
        found = []
        wait = self.waits.get(owner)
        if wait is not None and wait.is_waiting:
            found.append(self.blockers(wait))
        if owner in self.parked:
            found.append([Group(((self.parked[owner][0], ""),))])
        return found

    @staticmethod
    def _is_stuck(alternatives: list[list[Group]], left: dict[str, list[list[Group]]]) -> bool:
        def holds(group: Group) -> bool:
            stuck = [owner in left for owner in group.owners]
            return all(stuck) if group.is_any else any(stuck)

        return all(any(holds(group) for group in groups) for groups in alternatives)

    def edges(self, owner: str) -> dict[str, set[str]]:
        """Whom an owner waits for, and over which names."""
        found: dict[str, set[str]] = {}
        for groups in self.alternatives(owner):
            for group in groups:
                for other, name in group.members:
                    found.setdefault(other, set()).update({name} - {""})
        return found

    def choose(self, cycle: Iterable[str]) -> str:
        """The victim of a cycle: least priority and karma, holds least, youngest, by name."""

        def rank(owner: str) -> tuple[int, int, int, str]:
            wait = self.waits.get(owner)
            is_waiting = wait is not None and wait.is_waiting
            priority, since = (wait.priority, wait.since) if wait and is_waiting else (0, 0)
            since = since or self.parked[owner][1]
            worth = priority + self.karma.get(owner, 0)
            return (worth, len(self.held_by(owner)), -since, owner)

        return min(cycle, key=rank)

    def sacrifice(self, victim: str, lost: Iterable[str]) -> None:
        """End a victim's wait; what it holds of the cycle is forced from it in five seconds."""
        self.take_fence()
        for name in lost:
            own = self.of(name).get(victim)
            if own is not None:
                self.forced[name, victim, own.fence] = self.ms + VICTIM_GRACE_MS
        self.end_wait(victim)
        self.parked.pop(victim, None)
        self.verdicts.add(victim)
        self.karma[victim] = self.karma.get(victim, 0) + 1
