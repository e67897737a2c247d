"""What passed through a coordinator: requests by route, how long they took, how many run."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Awaitable, Iterator
from time import perf_counter
from typing import Any, Final

from callboard.http.route import Receive, Route, Scope, Send
from callboard.http.security.whole import ANSWER

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the histogram's buckets in seconds."""

UNMATCHED: Final = "unmatched"
"""Stands for all paths that are no route: whoever asks cannot make new series."""

VERBS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})

_log = logging.getLogger("callboard.http.access")


class Series:
    """What is known of one verb on one route.

    Attributes:
        statuses: Answers by class: ``"2xx"``; ``"none"`` where the caller left before.
        buckets: Answers by time, each bucket by itself, the last without an end; not those that
            were held, whose time says what was waited for.
        seconds: The sum of those times.
        sent: Bytes of the answers' bodies.
    """

    __slots__ = ("buckets", "seconds", "sent", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.sent = 0


class Requests:
    """Counts of one process, by route: bounded, as the routes are.

    Attributes:
        in_flight: Requests that are being answered, streams and sockets too.
        total: All that ended.
        failures: Those of them answered with 500 and above.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.total = 0
        self.failures = 0
        self.series: dict[tuple[str, str], Series] = {}

    def record(
        self,
        verb: str,
        path: str,
        status: int,
        seconds: float,
        sent: int,
        *,
        is_held: bool = False,
    ) -> None:
        """Note one request that ended. A status of 0: nothing was answered.

        One that was *held* is counted, and its time is not: a stream, a socket, a long poll.
        """
        series = self.series.get((verb, path))
        if series is None:
            series = self.series[verb, path] = Series()
        family = _FAMILIES[status // 100]
        series.statuses[family] = series.statuses.get(family, 0) + 1
        if not is_held:
            series.buckets[bisect_left(BOUNDS, seconds)] += 1
            series.seconds += seconds
        series.sent += sent
        self.total += 1
        if status >= 500:
            self.failures += 1

    def quantile(self, share: float) -> float:
        """The time within which this share of all requests was answered, in seconds.

        As precise as the buckets: within one, times are taken as spread evenly.
        """
        counts = [0] * (len(BOUNDS) + 1)
        for series in self.series.values():
            for at, count in enumerate(series.buckets):
                counts[at] += count
        rank, below = share * sum(counts), 0
        for at, count in enumerate(counts[:-1]):
            if count and below + count >= rank:
                start = BOUNDS[at - 1] if at else 0.0
                return start + (BOUNDS[at] - start) * (rank - below) / count
            below += count
        return BOUNDS[-1] if below < sum(counts) else 0.0

    def exposition(self) -> str:
        """The counts in the text format of Prometheus."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield "# HELP callboard_http_requests_total Requests answered, by class of status."
        yield "# TYPE callboard_http_requests_total counter"
        ordered = sorted(self.series.items())
        for (verb, path), series in ordered:
            for family, count in sorted(series.statuses.items()):
                labels = f'method="{verb}",route="{path}",status="{family}"'
                yield f"callboard_http_requests_total{{{labels}}} {count}"
        yield (
            "# HELP callboard_http_request_seconds Time until an answer was complete, but for "
            "streams, sockets and requests that waited for something."
        )
        yield "# TYPE callboard_http_request_seconds histogram"
        for (verb, path), series in ordered:
            labels, running = f'method="{verb}",route="{path}"', 0
            for bound, count in zip((*BOUNDS, "+Inf"), series.buckets, strict=True):
                running += count
                yield f'callboard_http_request_seconds_bucket{{{labels},le="{bound}"}} {running}'
            yield f"callboard_http_request_seconds_sum{{{labels}}} {series.seconds:.6f}"
            yield f"callboard_http_request_seconds_count{{{labels}}} {running}"
        yield "# HELP callboard_http_response_bytes_total Bytes of the answers' bodies."
        yield "# TYPE callboard_http_response_bytes_total counter"
        for (verb, path), series in ordered:
            labels = f'method="{verb}",route="{path}"'
            yield f"callboard_http_response_bytes_total{{{labels}}} {series.sent}"
        yield "# HELP callboard_http_requests_in_flight Requests being answered just now."
        yield "# TYPE callboard_http_requests_in_flight gauge"
        yield f"callboard_http_requests_in_flight {self.in_flight}"


_FAMILIES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class _Sending:
    """Passes an answer on, and notes its status and size."""

    __slots__ = ("sent", "status", "to")

    def __init__(self, to: Send) -> None:
        self.to = to
        self.status = 0
        self.sent = 0

    def __call__(self, message: dict[str, Any]) -> Awaitable[None]:
        # Not a coroutine of its own, as every answer passes here.
        kind = message["type"]
        if kind == ANSWER:
            self.status = message["status"]
            self.sent += len(message["body"])
        elif kind == "http.response.body":
            self.sent += len(message.get("body", b""))
        elif kind == "http.response.start":
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        return self.to(message)


class Observed:
    """The outermost layer: counts each request, and logs it where that is wished.

    The line of the log has verb, route, status, time and the caller's name: never a path's
    values, a query, or what was sent.
    """

    def __init__(self, app: Any, requests: Requests, *, logs: bool = False) -> None:
        self.app = app
        self.requests = requests
        self.logs = logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        kind = scope["type"]
        if kind == "lifespan":
            await self.app(scope, receive, send)
            return
        requests, sending = self.requests, _Sending(send)
        state = scope.setdefault("state", {})
        started = perf_counter()
        requests.in_flight += 1
        try:
            await self.app(scope, receive, sending)
        finally:
            requests.in_flight -= 1
            seconds = perf_counter() - started
            route: Route | None = state.get("route")
            verb = "WEBSOCKET" if kind == "websocket" else scope["method"]
            if verb not in VERBS and kind == "http":
                verb = "OTHER"
            path = UNMATCHED if route is None else route.path
            is_held = kind == "websocket" or "is_held" in state
            if route is not None and route.is_streaming:
                is_held = True
            requests.record(verb, path, sending.status, seconds, sending.sent, is_held=is_held)
            if self.logs:
                self._log(verb, path, sending, seconds, state)

    def _log(
        self, verb: str, path: str, sending: _Sending, seconds: float, state: dict[str, Any]
    ) -> None:
        caller = state.get("caller")
        fields = {
            "method": verb,
            "route": path,
            "status": sending.status,
            "ms": round(seconds * 1e3, 2),
            "bytes": sending.sent,
            "key": getattr(caller, "name", None),
            "request": state.get("request_id"),
        }
        given = {name: value for name, value in fields.items() if value is not None}
        _log.info("request", extra={"fields": given})
