"""Chaos: one fault in each run of the pipeline on real servers, and what became of it (``make chaos``).

``rig.py`` has the servers, the recipe and the checks; ``victims.py`` finds processes; the faults are in
``faults.py``, ``storage.py``, ``network.py`` and ``races.py``, each a list of cases.
"""
