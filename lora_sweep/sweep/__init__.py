"""Sweeps on Ray: the driver, the engine actors, the broker of their slots, the trials, search and scheduling.

Only this package imports Ray. The modules that trial and broker processes load (`trial`, `broker`) do without torch.
"""
