"""Is this machine ready, and is that run healthy?"""
