"""One module per stage of the pipeline: a job and its input files in, output files out."""
