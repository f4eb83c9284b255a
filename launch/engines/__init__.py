"""Scripts that start a pretraining on Slurm, with torchrun or DeepSpeed, on Kubernetes and with SkyPilot."""
