-- Requests for wrk, in turn to each of a number of streams: `wrk … -- METHOD PATH STREAMS TYPE BODY`.
-- The number of the stream stands in place of `#` in the path; a path given as `@FILE` is one of that file's lines for each stream.
-- A sixth argument is a bearer token.
-- A body given as `@N` is N octets, as `json:N` N JSON values.
local requests, turn = {}, 0

local function body_of(text)
  local octets, values = text:match("^@(%d+)$"), text:match("^json:(%d+)$")
  if octets then return string.rep("x", tonumber(octets)) end
  if not values then return text end
  local list = {}
  for n = 1, tonumber(values) do
    list[n] = string.format('{"id":%d,"text":"%s"}', 1000000 + n, string.rep("x", 76))
  end
  return "[" .. table.concat(list, ",") .. "]"
end

local function paths_of(text, streams)
  local paths, file = {}, text:match("^@(.*)$")
  if file then
    for line in io.lines(file) do paths[#paths + 1] = line end
  else
    for n = 0, streams - 1 do paths[n + 1] = text:gsub("#", n) end
  end
  return paths
end

init = function(args)
  local method, path, streams, type, body = args[1], args[2], tonumber(args[3]), args[4], body_of(args[5] or "")
  local headers = method == "POST" and { ["Content-Type"] = type } or {}
  if args[6] then headers["Authorization"] = "Bearer " .. args[6] end
  for n, each in ipairs(paths_of(path, streams)) do
    requests[n] = wrk.format(method, each, headers, method == "POST" and body or nil)
  end
end

request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
