from repsearch.cli import main

main()
