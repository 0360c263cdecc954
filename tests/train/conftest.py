"""Pictures to train on, and a compilation cache, for every file here."""

import jax
import pytest
import tiny
from jax.experimental.compilation_cache import compilation_cache

from seg_jax import parallel
from seg_jax.train import program


@pytest.fixture(scope="module")
def compile_once(tmp_path_factory):
    """Every `fit` of a file compiles the same program: keep it on disk."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    patch = pytest.MonkeyPatch()
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("xla")))
    parallel.enable_compilation_cache()
    program._compiled.cache_clear()  # of another file's runs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    yield
    patch.undo()
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny.write_pictures(tmp_path_factory.mktemp("voc"))
