-- Appends 100 octets to one of 64 streams after the other.
local streams, turn = 64, 0
local body = string.rep("x", 100)
request = function()
  turn = (turn + 1) % streams
  return wrk.format("POST", "/v1/stream/bench-" .. turn, { ["Content-Type"] = "application/octet-stream" }, body)
end
