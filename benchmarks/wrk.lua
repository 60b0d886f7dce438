-- Requests of one kind, no two of them alike:  wrk -t 1 -s wrk.lua URL -- kind key run first size
-- kind: assignment (a new unit each) or outcome (of the units call-<first>, call-<first + 1>, ...)
-- size: outcomes in one request, 0 for a single one that is no list. It prints one line of JSON.
local kind, run, next_unit, size, headers

function init(arguments)
  kind, run = arguments[1], arguments[3]
  next_unit, size = tonumber(arguments[4]), tonumber(arguments[5])
  headers = { ["Authorization"] = "Bearer " .. arguments[2], ["Content-Type"] = "application/json" }
end

local function outcome()
  local unit = next_unit
  next_unit = next_unit + 1
  local is_resolved = unit % 10 < 7 and "true" or "false"
  return string.format('{"prompt":"bench","unit_id":"call-%d","metrics":{"resolved":%s}}', unit, is_resolved)
end

local function outcomes()
  local items = {}
  for position = 1, size do items[position] = outcome() end
  return "[" .. table.concat(items, ",") .. "]"
end

local function assignment()
  next_unit = next_unit + 1
  return string.format('{"prompt":"bench","unit_id":"%s-%d"}', run, next_unit)
end

function request()
  if kind == "assignment" then return wrk.format("POST", "/assignments", headers, assignment()) end
  return wrk.format("POST", "/outcomes", headers, size == 0 and outcome() or outcomes())
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"refused":%d,"lost":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status, e.connect + e.read + e.write + e.timeout))
end
