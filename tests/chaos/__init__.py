"""Real workers on a real store, both broken over and over: is every promise still kept?"""
