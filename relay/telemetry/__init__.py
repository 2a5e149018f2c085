"""Events, and what is made of them: metrics, the text of ``/livez`` and ``/readyz``, status, incidents and logs."""
