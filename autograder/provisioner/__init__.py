"""Kernels in the sandbox, started warm: what runs learners' notebooks when a class is graded."""

from autograder.provisioner.manager import SandboxProvisioner, effort, start_kernel, why_ended

__all__ = ["SandboxProvisioner", "effort", "start_kernel", "why_ended"]
