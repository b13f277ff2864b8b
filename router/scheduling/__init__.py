"""The parts of the scheduler, one concept a module. All of it is pure: data in, data out."""
