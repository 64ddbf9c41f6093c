"""What a learner's kernel sees of `autograder` when a class is graded: these files, under the package's own name."""
