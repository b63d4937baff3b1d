"""What operators deploy: the stack of servers on one machine, and the same servers on others."""
