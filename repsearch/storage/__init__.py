"""Files: whole or not at all, vouched for, locked, resumed, and distrusted where they come from others."""
