"""Makes the backend name "treadle" known to torch versions that cannot look it up themselves.

Torch before 2.14 runs register() at the end of every `import torch`. An exception here would make
that import fail, so nothing of the package is imported before a group is made, and nothing gets out.
A module of its own, because importing a module of the package runs the package's __init__ first.
"""


def register():
    try:
        import torch

        if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 14):
            return  # these find the entry point in "torch.distributed.backends"
        from torch.distributed import Backend

        Backend.register_backend("treadle", _create, extended_api=True, devices=["cpu", "cuda"])
    except Exception:
        pass


def _create(opts, pg_options):
    import treadle

    return treadle._create_backend(opts, pg_options)
