import signal

import jax

# A broadcast that changes an array's rank is an error in every test.
jax.config.update("jax_numpy_rank_promotion", "raise")

# A shell starts background jobs with Ctrl-C ignored, and children inherit that: give it back.
signal.signal(signal.SIGINT, signal.default_int_handler)
