"""Every installed task's rewards, as other trainers ask for them: one module each."""
