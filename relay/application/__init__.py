"""What is relayed: the signal models of an application, or tables without one."""
