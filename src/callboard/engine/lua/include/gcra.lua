-- The generic cell rate algorithm (ITU-T I.371, annex A), virtual scheduling.
--
-- What is kept of a rate is one number: the theoretical arrival time, in us, of what comes
-- next. One is let through where that is at most burst - 1 intervals ahead, and moves it on by
-- an interval.

local gcra = {}

do
  -- When the next would come by what was let through so far. More than a burst ahead can only
  -- be counted by an interval or burst that holds no longer: then one is let through, from
  -- which on it is counted anew.
  function gcra.arrival(at, now, interval, burst)
    if at > now + burst * interval then at = now + (burst - 1) * interval end
    if at < now then return now end
    return at
  end

  -- When the next is let through; now or before where that is at once.
  function gcra.next_at(arrival, interval, burst)
    return arrival - (burst - 1) * interval
  end
end
