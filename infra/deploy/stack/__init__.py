"""All servers of the pipeline as supervised processes of one machine: ``make stack``.

``services.py`` lists them. supervisord starts them and restarts those that die; each starts through
``service.py``, which waits for what it needs. ``layout.py`` has the files, ports and secrets.
"""
