import jax

# A broadcast that changes an array's rank is an error in every test.
jax.config.update("jax_numpy_rank_promotion", "raise")
