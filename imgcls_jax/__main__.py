"""`python -m imgcls_jax …` is `imgcls …`."""

from imgcls_jax.cli import app

if __name__ == "__main__":
    app.run()
