-- Which lanes an agent can serve.
--
-- A lane is `kind;type;capabilities;services;labels;health;flow`, of which the last two are
-- left out where they are empty (the health that is asked for, and flow.lua), an agent's profile is
-- `type;capabilities;services;labels;kinds`; lists are comma-separated. An agent with no
-- kinds serves them all.
-- include breaker

local fit_cache, fits_cached = {}, 0
local LANE_FIELDS = '^([^;]*);([^;]*);([^;]*);([^;]*);([^;]*)'
local LANE_HEALTH = '^[^;]*;[^;]*;[^;]*;[^;]*;[^;]*;([^;]+)'

local function lacks(wanted, list, what, missing)
  if wanted == '' then return end
  local padded = ',' .. list .. ','
  for name in gmatch(wanted, '[^,]+') do
    if not string.find(padded, ',' .. name .. ',', 1, true) then
      missing[#missing + 1] = what .. ' ' .. name
    end
  end
end

-- What the profile lacks for the lane, as a list of words; empty where it fits.
local function missing_for(profile, lane)
  local kind, agent_type, capabilities, services, labels = match(lane, LANE_FIELDS)
  local p_type, p_capabilities, p_services, p_labels, p_kinds = match(profile, LANE_FIELDS)
  local missing = {}
  if agent_type ~= '' and agent_type ~= p_type then missing[1] = 'agent_type ' .. agent_type end
  lacks(capabilities, p_capabilities, 'capability', missing)
  lacks(services, p_services, 'service', missing)
  lacks(labels, p_labels, 'label', missing)
  if p_kinds ~= '' then lacks(kind, p_kinds, 'kind', missing) end
  return missing
end

-- Whether the profile fits the lane, or how much health the lane asks for besides: a pure
-- function, so its results outlive the call.
local function fit_of(profile, lane)
  local lanes = fit_cache[profile]
  if not lanes then lanes = {}; fit_cache[profile] = lanes end
  local answer = lanes[lane]
  if answer == nil then
    if fits_cached >= 100000 then fit_cache, fits_cached = { [profile] = {} }, 0 end
    answer = #missing_for(profile, lane) == 0 and (tonumber(match(lane, LANE_HEALTH)) or true)
    fit_cache[profile][lane] = answer
    fits_cached = fits_cached + 1
  end
  return answer
end

local function fits(profile, lane) return fit_of(profile, lane) ~= false end

local function kind_of(lane) return match(lane, '^[^;]*') end

-- Whether tasks of the lane's kind may not be claimed now: paused, or their breaker is open.
local function kind_paused(b, lane)
  if b.t.gated and breakers.shuts(breakers.kind(b.t, lane)) then return true end
  return b.paused_kinds ~= ''
    and string.find(',' .. b.paused_kinds .. ',', ',' .. kind_of(lane) .. ',', 1, true) ~= nil
end
