"""How masks are scored: functions of tubes, and the metrics that call them."""
