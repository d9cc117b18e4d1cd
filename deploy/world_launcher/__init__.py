"""What deploy/world does: reads hosts, looks at them, starts mpirun, and starts a lost world again."""
