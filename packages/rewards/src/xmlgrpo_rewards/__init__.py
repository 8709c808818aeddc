"""What a good answer is: the reply format, the tasks and the reward functions."""
