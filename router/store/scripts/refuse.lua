-- Takes requests out of the line and tells their workers why.
-- ARGV: prefix, holder, detail (JSON), ids... Returns how many there were.
local late = fenced(ARGV[2])
if late then return late end
local now, refused = now_ms(), 0
for i = 4, #ARGV do
  local request = give_up(now, ARGV[i], 'refused')
  if request then
    post(request.worker, now, ARGV[i], 'refused', ARGV[3])
    refused = refused + 1
  end
end
return refused
