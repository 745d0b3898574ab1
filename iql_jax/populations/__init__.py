"""Many runs as one program: seeds, sweeps, hosts and clusters."""
