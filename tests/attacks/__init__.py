"""Notebooks that mean no good, run through the course's grader and through stock nbgrader. See docs/security.md."""
