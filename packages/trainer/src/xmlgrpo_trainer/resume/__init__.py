"""What lets a run stop and go on: its folder opened, recorded, continued."""
