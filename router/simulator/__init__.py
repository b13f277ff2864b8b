"""`hearth simulate`: the real scheduler, and its peers, on a discrete-event clock."""
