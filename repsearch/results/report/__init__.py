"""One HTML page with everything a results folder holds, its pictures inside: `page.make`."""
